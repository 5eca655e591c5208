"""record(), edit() and resume(): context managers; nothing else registers a hook.

A block's output is a tensor in some versions of transformers and a tuple that begins with it in
others; both are accepted. Hooks never write into a tensor, and are removed when the `with` ends,
however it ends. They run in the order in which they were set up: a record() inside an edit() sees
the edited residual, one around it the untouched one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

Transform = Callable[[Tensor], Tensor]
Blocks = Sequence[nn.Module] | nn.ModuleList


@contextmanager
def record(blocks: Blocks, keep: Transform = lambda resid: resid) -> Iterator[dict[int, Tensor]]:
    """What leaves each block? Fills {block: keep(residual [B, P, D])} at every forward pass.

    `keep` picks what is worth the memory, the last position say; it runs on the model's device.
    """
    seen: dict[int, Tensor] = {}

    def hook_for(index: int) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            seen[index] = keep(_residual(output).detach())

        return hook

    with _until_left([block.register_forward_hook(hook_for(i)) for i, block in enumerate(blocks)]):
        yield seen


@contextmanager
def edit(blocks: Blocks, transforms: Mapping[int, Transform]) -> Iterator[None]:
    """What if a block had said something else? Makes block i's residual transforms[i](residual).

    Raises:
        ValueError: no such block; or, at the forward pass, a transform that changes the residual's
            shape or type, or writes into it.
    """
    _require_known(blocks, transforms)

    def hook_for(transform: Transform) -> Callable[..., Any]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            after = _applied(transform, _residual(output))
            return after if isinstance(output, Tensor) else (after, *output[1:])

        return hook

    with _until_left([blocks[i].register_forward_hook(hook_for(t)) for i, t in transforms.items()]):
        yield


@contextmanager
def resume(blocks: Blocks, block: int, resid: Tensor) -> Iterator[None]:
    """What follows if `block` has said `resid`? It and the blocks before it are not computed.

    Hooks at `block` see `resid` as its output; those at earlier blocks see what does not matter.
    Known failure: models whose blocks give tuples; compare a resumed pass with a whole one.
    """

    def stand_in(last: bool) -> Callable[..., Tensor]:
        def forward(hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
            return resid if last else hidden_states

        return forward

    skipped = list(blocks)[: block + 1]
    for index, module in enumerate(skipped):
        module.forward = stand_in(index == block)
    try:
        yield
    finally:
        for module in skipped:
            del module.forward


@contextmanager
def record_inputs(modules: Blocks, keep: Transform = lambda x: x) -> Iterator[dict[int, Tensor]]:
    """What enters each module? Fills {module: keep(its first input)} at every forward pass."""
    seen: dict[int, Tensor] = {}

    def hook_for(index: int) -> Callable[..., None]:
        def hook(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
            seen[index] = keep(_residual(inputs).detach())

        return hook

    with _until_left([m.register_forward_pre_hook(hook_for(i)) for i, m in enumerate(modules)]):
        yield seen


@contextmanager
def edit_inputs(modules: Blocks, transforms: Mapping[int, Transform]) -> Iterator[None]:
    """What if a module had been given something else? Input of module i: transforms[i](input).

    Raises:
        ValueError: as `edit` does.
    """
    _require_known(modules, transforms)

    def hook_for(transform: Transform) -> Callable[..., Any]:
        def hook(_module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            return (_applied(transform, _residual(inputs)), *inputs[1:])

        return hook

    with _until_left(
        [modules[i].register_forward_pre_hook(hook_for(t)) for i, t in transforms.items()]
    ):
        yield


@contextmanager
def _until_left(handles: Sequence[RemovableHandle]) -> Iterator[None]:
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _require_known(blocks: Blocks, transforms: Mapping[int, Transform]) -> None:
    unknown = [i for i in transforms if not 0 <= i < len(blocks)]
    if unknown:
        raise ValueError(f"no such block: {unknown}; the model has blocks 0 to {len(blocks) - 1}")


def _applied(transform: Transform, before: Tensor) -> Tensor:
    version = None if before.is_inference() else before._version
    after = transform(before)
    if version is not None and before._version != version:
        raise ValueError("an edit must return a new tensor, it wrote into the residual")
    if after.shape != before.shape:
        raise ValueError(
            f"an edit must keep the shape {tuple(before.shape)}, got {tuple(after.shape)}"
        )
    if after.dtype != before.dtype:
        raise ValueError(f"an edit must keep the type {before.dtype}, got {after.dtype}")
    return after


def _residual(output: Any) -> Tensor:
    first = output if isinstance(output, Tensor) else output[0]
    if not isinstance(first, Tensor):
        raise TypeError(f"expected a tensor from the block, got {type(first).__name__}")
    return first
