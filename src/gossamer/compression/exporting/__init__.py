"""How a network becomes an ONNX file: recording it, and judging what the file gives."""
