"""Models for other programs: one graph from waveforms to log-probabilities, as ONNX or `torch.export`.

`asr.export.runner` runs an ONNX file without PyTorch; so nothing is imported here.
"""
