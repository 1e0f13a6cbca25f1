"""Starting from saved models: those of one file, or of a run's folder device by device."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from p2pl_async.basics.tensorfiles import files_in, read_tensors, shapes_in
from p2pl_async.errors import Problem, ScenarioError

if TYPE_CHECKING:
    from torch import nn

_SHOWN = 3  # tensors that an error names


def check_start(module: nn.Module, path: Path, devices: int) -> None:
    """Look at the saved models of all devices before anything is trained.

    Args:
        module: of the model.
        path: of a file, or of a folder with a file for each device.
        devices: how many there are.

    Raises:
        ScenarioError: if a device has no file, or one that can't be read or doesn't fit the module.
    """
    files = files_in(path)
    missing = [device for device in range(devices) if device not in files] if files else []
    if missing:
        has = f"has models of {len(files)} devices, {min(files)} to {max(files)}"
        text = f"{has}; none of device {missing[0]}, the scenario has {devices}; name one file for all of them"
        raise ScenarioError("model", [Problem("model.init", text, str(path))])
    for file in [files[device] for device in range(devices)] if files else [path]:
        try:
            shapes = shapes_in(file)
        except ValueError as error:
            _refuse(file, str(error))
        _check_fit(module, shapes, file)


def start_from(module: nn.Module, path: Path, device: int) -> None:
    """Give a module the tensors of a saved model.

    Args:
        module: of the model; its parameters and buffers are overwritten.
        path: of a file, or of a folder with a file for each device.
        device: which of these.

    Raises:
        ScenarioError: if the file is not there, can't be read, or doesn't fit the module.
    """
    import torch

    file = files_in(path).get(device, path)
    try:
        tensors = read_tensors(file)
    except ValueError as error:
        _refuse(file, str(error))
    _check_fit(module, {name: value.shape for name, value in tensors.items()}, file)
    module.load_state_dict({name: torch.from_numpy(value) for name, value in tensors.items()})


def _check_fit(module: nn.Module, found: dict[str, tuple[int, ...]], file: Path) -> None:
    """Compare the tensors of a file with those of the module, by name and shape."""
    wanted = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    wrong = [
        f"{name} is {found[name]} there, the model has {shape}"
        for name, shape in wanted.items()
        if name in found and found[name] != shape
    ]
    wrong += [f"{name} {shape} is missing there" for name, shape in wanted.items() if name not in found]
    wrong += [f"{name} {shape} is there, the model has none" for name, shape in found.items() if name not in wanted]
    if wrong:
        more = f", and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        _refuse(file, f"doesn't fit the model: {'; '.join(wrong[:_SHOWN])}{more}; use the [model] it was trained with")


def _refuse(file: Path, text: str) -> NoReturn:
    raise ScenarioError("model", [Problem("model.init", text, str(file))])
