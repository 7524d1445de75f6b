"""How networks are run here: threads, spinning, execution providers, warm-up – one record, nothing implied."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from edgewise.wire import NotValid

CPU = "CPUExecutionProvider"
# By the word in the settings; in the order in which `auto` prefers them.
PROVIDERS = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "cpu": CPU,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class RuntimeSettings:
    """How ONNX Runtime is set up. The defaults are what is best on a machine that also does other things."""

    threads: int = 1  # of one run
    spinning: bool = False  # threads that wait burn a core: twice the CPU time, and slower on a busy machine
    providers: tuple[str, ...] = ("cpu",)  # words of PROVIDERS, or ("auto",); the CPU always comes last
    warm_up_runs: int = 1  # at opening: the first run of a network allocates, and is no measure of it
    warm_up_values_max: int = 16_000_000  # a network that takes more is not warmed up
    batch_max: int = 1  # runs by name that may be joined, where several threads ask at once; bound runs never are
    wait_ms_max: float = 0.5  # that a run waits for others

    def __post_init__(self) -> None:
        if not 1 <= self.threads <= 256:
            raise NotValid(f"threads is {self.threads}, needs to be from 1 to 256", code="runtime_settings")
        if not 0 <= self.warm_up_runs <= 100:
            raise NotValid(f"warm_up_runs is {self.warm_up_runs}, needs to be from 0 to 100", code="runtime_settings")
        known = [*PROVIDERS, "auto"]
        for word in self.providers:
            if word not in known:
                raise NotValid(f"provider {word!r} is not known; needs one of {', '.join(known)}", code="provider")


def chosen_providers(wanted: Collection[str], available: Collection[str]) -> list[str]:
    """ONNX Runtime's names of the providers to use, the best first and the CPU last.

    Args:
        wanted: words of `PROVIDERS`, or ``auto``: whatever is there.
        available: as `onnxruntime.get_available_providers()` names them.
    Raises:
        NotValid: one that was asked for is not in the runtime installed here; the message names those that are.

    >>> chosen_providers(["auto"], ["OpenVINOExecutionProvider", "CPUExecutionProvider"])
    ['OpenVINOExecutionProvider', 'CPUExecutionProvider']
    >>> chosen_providers(["cpu"], ["OpenVINOExecutionProvider", "CPUExecutionProvider"])
    ['CPUExecutionProvider']
    """
    if "auto" in wanted:
        return [name for name in PROVIDERS.values() if name in available and name != CPU] + [CPU]
    for word in wanted:
        if PROVIDERS[word] not in available:
            there = ", ".join(word for word, name in PROVIDERS.items() if name in available)
            raise NotValid(
                f"provider {word} is not in the ONNX Runtime installed here, which has {there}; choose one of these or "
                "auto, or install the ONNX Runtime package that brings it",
                code="provider_missing",
            )
    return [PROVIDERS[word] for word in wanted if word != "cpu"] + [CPU]
