"""What every room uses: errors, files, arrays from outside, random streams, texts."""
