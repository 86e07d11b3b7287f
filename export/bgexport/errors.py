"""What can go wrong between a checkpoint and a served network; each check fails as its own class.

    ExportError
    ├── GraphError              the ONNX file itself
    │   ├── InvalidGraph        onnx's checker or shape inference refuses it
    │   ├── WrongTensors        names, types or shapes are not the contract's
    │   ├── ContractMissing     no contract in the metadata
    │   ├── ContractDiffers     another contract than expected
    │   └── UnfoldedNorm        a batch normalisation that should have become part of its convolution
    ├── ParityError             two engines disagree about the same photos
    │   ├── NotAnAlpha          a value outside [0, 1], or not a number
    │   ├── MaxDifference       one pixel differs by too much
    │   ├── MeanDifference      the pixels differ by too much on average
    │   ├── IouChange           the person's outline moved
    │   └── BatchMates          the answer depends on the other photos of the batch
    ├── QualityLoss             scores less against the labels than the stated loss allows
    ├── TooLarge                the file is larger than its use allows
    ├── NoPhotos                nothing to calibrate or to verify on
    ├── BuildError              TensorRT
    │   ├── NoBuilder           neither Python bindings nor trtexec
    │   ├── NotParsed           its ONNX parser refuses the graph
    │   └── NotBuilt            it parses, and no engine comes out
    ├── RepositoryDiffers       a committed config.pbtxt is not what is rendered today
    ├── WeightsDiffer           a committed checkpoint is not what the served graph was made of
    └── ResultMissing           no committed result is of the served graph

The message says what was found, what was expected, and what to do next.
"""

from __future__ import annotations

from bgimage.errors import BgError


class ExportError(BgError):
    """Base class of this package's errors."""

    code = "export_failed"


class GraphError(ExportError):
    """The ONNX file itself."""

    code = "bad_graph"


class InvalidGraph(GraphError):
    """onnx's checker or its shape inference refuses the graph."""

    code = "invalid_graph"


class WrongTensors(GraphError):
    """Names, types or shapes of inputs and outputs are not the contract's."""

    code = "wrong_tensors"


class ContractMissing(GraphError):
    """The file's metadata holds no contract."""

    code = "contract_missing"


class ContractDiffers(GraphError):
    """The file's contract is another one than expected."""

    code = "contract_differs"


class UnfoldedNorm(GraphError):
    """A batch normalisation follows a convolution and did not become part of it."""

    code = "unfolded_norm"


class ParityError(ExportError):
    """Two engines disagree about the same photos."""

    code = "no_parity"


class NotAnAlpha(ParityError):
    """A value outside [0, 1], or not a number."""

    code = "not_an_alpha"


class MaxDifference(ParityError):
    """One pixel differs by too much."""

    code = "max_difference"


class MeanDifference(ParityError):
    """The pixels differ by too much on average."""

    code = "mean_difference"


class IouChange(ParityError):
    """The outline at alpha 0.5 moved by too much."""

    code = "iou_change"


class BatchMates(ParityError):
    """A photo's answer depends on the other photos of its batch."""

    code = "batch_mates"


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
    """TensorRT gave no engine."""

    code = "no_engine"


class NoBuilder(BuildError):
    """Neither TensorRT's Python bindings nor ``trtexec`` are installed."""

    code = "no_builder"


class NotParsed(BuildError):
    """TensorRT's ONNX parser refuses the graph."""

    code = "not_parsed"


class NotBuilt(BuildError):
    """The graph parses, and no engine comes out."""

    code = "not_built"


class RepositoryDiffers(ExportError):
    """A committed ``config.pbtxt`` is not what is rendered today."""

    code = "repository_differs"


class WeightsDiffer(ExportError):
    """The committed checkpoint is not what the served graph was made of."""

    code = "weights_differ"


class ResultMissing(ExportError):
    """No committed result is of the served graph."""

    code = "no_result"
