"""The sections of a recipe about training, calibration, prediction sets and tuning."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue, field_validator, model_validator

from .schema import Settings


class CalibrationSettings(Settings):
    """How the probabilities of the validation images become those of the classifier, and its sets of classes."""

    method: Literal["auto", "temperature", "vector", "none"] = Field(
        "auto", description="one temperature, or a scale and a bias a class (vector); auto cross-validates the two"
    )
    coverage: float = Field(
        0.9, gt=0.0, lt=1.0, description="share of the prediction sets that shall hold the true class"
    )
    sets: Literal["lac", "aps"] = Field(
        "lac", description="lac: the smallest sets on average; aps: sets that grow with the difficulty of an image"
    )
    class_conditional: bool = Field(False, description="promise the coverage for each class by itself")


Positive = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(gt=0.0)]
Decay = Annotated[float, Field(ge=0.0, lt=1.0)]
ValidationScore = Literal[
    "val_loss", "val_accuracy", "val_balanced_accuracy", "val_macro_f1", "val_auroc", "val_log_loss"
]
"""What a validation measures; less is better for the two losses."""


def score_mode(score: str) -> Literal["min", "max"]:
    """Whether less or more of a score is better."""
    return "min" if score.endswith("loss") else "max"


class RatesSettings(Settings):
    """Learning rates of the parts of the network; a part without one takes `training.learning_rate`."""

    early: Rate | None = Field(None, description="the stem and the first stages (resnet: conv1, bn1, layer1)")
    middle: Rate | None = Field(None, description="the stages in the middle (resnet: layer2, layer3)")
    late: Rate | None = Field(None, description="the last stages (resnet: layer4)")
    head: Rate | None = Field(None, description="what follows the backbone")


class TrainingSettings(Settings):
    """Optimisation."""

    epochs: int = Field(20, ge=0, description="epochs at most; 0 takes the network as it begins")
    batch_size: int = Field(64, ge=1, description="images in a step, of all devices together")
    accumulate: int = Field(1, ge=1, description="steps whose gradients are added up before the weights move")
    loss: Literal["cross_entropy", "focal"] = Field("cross_entropy", description="the loss")
    focal_gamma: float = Field(2.0, ge=0.0, description="focal: how much easy images are played down; 0 not at all")
    label_smoothing: float = Field(0.0, ge=0.0, lt=1.0, description="share of each label spread over all classes")
    class_weights: Literal["none", "balanced", "sqrt"] = Field(
        "none", description="weight of a class in the loss: equal, 1/frequency, or its square root"
    )
    uncertainty_weight: float = Field(0.1, ge=0.0, description="weight of the uncertainty head's loss, where it exists")
    optimizer: Literal["adam", "adamw", "sgd"] = Field("adamw", description="the optimiser")
    learning_rate: Rate = Field(1e-3, description="learning rate (the highest one of a onecycle schedule)")
    rates: RatesSettings = Field(RatesSettings(), description="other learning rates for parts of the network")
    betas: tuple[Decay, Decay] = Field((0.9, 0.999), description="moment decays of Adam; onecycle moves the first")
    eps: float = Field(1e-8, gt=0.0, description="epsilon of Adam and AdamW")
    momentum: Decay = Field(0.9, description="momentum of SGD; onecycle moves it")
    nesterov: bool = Field(False, description="SGD: Nesterov's momentum")
    weight_decay: float = Field(1e-4, ge=0.0, description="weight decay")
    clip: float | None = Field(None, gt=0.0, description="largest norm of the gradient; longer ones are shortened")
    schedule: Literal["none", "plateau", "onecycle", "cosine", "step"] = Field(
        "onecycle", description="how the learning rate moves"
    )
    warmup: float = Field(0.3, gt=0.0, lt=1.0, description="onecycle: share of the steps in which the rate rises")
    start_divisor: float = Field(25.0, ge=1.0, description="onecycle: first rate = learning_rate / start_divisor")
    end_divisor: float = Field(1e4, ge=1.0, description="onecycle: last rate = first rate / end_divisor")
    plateau_monitor: ValidationScore | None = Field(None, description="plateau: what is watched; null takes `monitor`")
    plateau_factor: float = Field(0.1, gt=0.0, lt=1.0, description="plateau: factor on the rate")
    plateau_patience: int = Field(3, ge=0, description="plateau: epochs without progress before the rate falls")
    step_epochs: int = Field(10, ge=1, description="step: epochs between two falls of the rate")
    step_factor: float = Field(0.1, gt=0.0, lt=1.0, description="step: factor on the rate")
    monitor: ValidationScore = Field(
        "val_loss", description="what decides the best checkpoint, the plateau and the early stop"
    )
    validations_per_epoch: int = Field(1, ge=1, description="validations in an epoch; 4 validates every quarter")
    validate_every_steps: int | None = Field(
        None, ge=1, description="batches between two validations, whatever the epochs; instead of the above"
    )
    early_stopping: int | None = Field(None, ge=1, description="stop after so many epochs without progress")
    keep_best: int = Field(1, ge=1, description="best checkpoints kept")
    keep_every: int | None = Field(None, ge=1, description="keep a checkpoint every so many epochs as well")
    checkpoint_steps: int = Field(
        200, ge=1, description="batches between two checkpoints at most, from which a killed training goes on"
    )
    averaging: Literal["none", "ema", "swa"] = Field(
        "none", description="validate and keep averaged weights: exponentially (ema), or all from swa_start on (swa)"
    )
    ema_decay: Decay = Field(0.999, description="ema: how much of the average is kept at each step")
    swa_start: float = Field(0.75, ge=0.0, lt=1.0, description="swa: share of the steps after which averaging begins")
    gradient_checkpointing: bool = Field(
        False, description="compute the residual blocks again in the backward pass: less memory, more time"
    )
    watch_every_steps: int = Field(10, ge=1, description="TensorBoard: steps between two rows of losses and gradients")
    watch_images: int = Field(4, ge=0, description="TensorBoard: validation images shown with their Grad-CAM")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto takes bfloat16 where the hardware computes in it"
    )
    channels_last: bool = Field(True, description="memory order that convolutions are faster in")

    @property
    def monitor_mode(self) -> Literal["min", "max"]:
        """Whether less or more of the monitored quantity is better."""
        return score_mode(self.monitor)


class RangeSettings(Settings):
    """A range of values to search."""

    low: float = Field(description="smallest value")
    high: float = Field(description="largest value")
    log: bool = Field(False, description="draw evenly in the logarithm")
    integer: bool = Field(False, description="whole numbers only")

    @model_validator(mode="after")
    def _is_a_range(self) -> RangeSettings:
        if not self.low < self.high:
            raise ValueError(f"low must be smaller than high, and {self.low:g} is not smaller than {self.high:g}")
        if self.log and self.low <= 0.0:
            raise ValueError(f"a logarithmic range begins above 0, not at {self.low:g}")
        if self.integer and not (self.low.is_integer() and self.high.is_integer()):
            raise ValueError("an integer range has whole numbers as its ends")
        return self


Space = dict[str, list[JsonValue] | RangeSettings]


class TuneSettings(Settings):
    """What `skyclass tune` searches, and how."""

    space: Space = Field({}, description="recipe key: a list of values, or a range {low, high, log, integer}")
    metric: ValidationScore | None = Field(
        None, description="the score of a trial, at its best validation; null takes the monitor"
    )
    sampler: Literal["grid", "tpe", "random"] | None = Field(
        None, description="how values are chosen; null takes grid for lists alone, tpe where there is a range"
    )
    trials: Positive | None = Field(None, description="trainings at most; null takes a whole grid, or 20")
    pruner: Literal["none", "median", "hyperband"] = Field(
        "none",
        description="stop trainings early that are worse than others were at that epoch: than the median of five or "
        "more, or by successive halving",
    )

    @field_validator("space")
    @classmethod
    def _lists_hold_something(cls, space: Space) -> Space:
        for key, values in space.items():
            if isinstance(values, list) and not values:
                raise ValueError(f"{key} has no values")
        return space

    @model_validator(mode="after")
    def _a_grid_has_no_ranges(self) -> TuneSettings:
        ranges = [key for key, values in self.space.items() if isinstance(values, RangeSettings)]
        if self.sampler == "grid" and ranges:
            raise ValueError(f"a grid needs a list of values for {ranges[0]}, not a range")
        return self
