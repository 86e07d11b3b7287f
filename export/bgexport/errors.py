"""What can go wrong between a checkpoint and a served network.

    ExportError
    ├── GraphError              the ONNX file: invalid, other tensors than the contract's, a norm that was not folded
    ├── ContractError           no contract in the file, or another one than expected
    ├── ParityError             two engines disagree about the same photos, or a photo's answer about its batch
    ├── QualityLoss             scores less against the labels than the stated loss allows
    ├── TooLarge                the file is larger than its use allows
    ├── NoPhotos                nothing to calibrate or to verify on
    ├── BuildError              TensorRT is not there, refuses the graph, or makes no engine of it
    └── OutOfDate               a committed file is not what it would be made as today

The message says what was found, what was expected, and what to do next.
"""

from __future__ import annotations

from bgimage.errors import BgError


class ExportError(BgError):
    """Base class of this package's errors."""

    code = "export_failed"


class GraphError(ExportError):
    """The ONNX file: onnx or ONNX Runtime refuses it, its tensors are not the contract's, or a norm was not folded."""

    code = "bad_graph"


class ContractError(ExportError):
    """The file holds no contract, another one than expected, or one that cannot be kept."""

    code = "bad_contract"


class ParityError(ExportError):
    """Two engines disagree about the same photos, an answer is not an alpha, or it depends on its batch mates."""

    code = "no_parity"


class QualityLoss(ExportError):
    """The lower precision scores less against the labels than the stated loss allows."""

    code = "quality_loss"


class TooLarge(ExportError):
    """The file is larger than its use allows."""

    code = "too_large"


class NoPhotos(ExportError):
    """There are no photos to calibrate or to verify on."""

    code = "no_photos"


class BuildError(ExportError):
    """TensorRT is not installed, its parser refuses the graph, or no engine comes out."""

    code = "no_engine"


class OutOfDate(ExportError):
    """A committed file (configuration, checkpoint, result) is not of what is served today."""

    code = "out_of_date"
