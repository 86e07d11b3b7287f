"""Checkpoint to ONNX, TensorRT plan and Triton repository, with a check at every arrow."""
