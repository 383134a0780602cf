"""The commands of `gossamer`, one file each, and what they share."""
