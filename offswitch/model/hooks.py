"""record(), edit(), resume(): context managers; nothing else registers a hook.

A block's output is a tensor in some versions of transformers and a tuple that begins with it in
others; both are accepted. Hooks never write into a tensor, and are removed when the `with` ends,
however it ends. They run in the order in which they were set up: a record() inside an edit() sees
the edited residual, one around it the untouched one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final
from weakref import WeakSet

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

Transform = Callable[[Tensor], Tensor]
Blocks = Sequence[nn.Module] | nn.ModuleList
Register = Callable[..., RemovableHandle]
_GIVE_TUPLES: Final[WeakSet[nn.Module]] = (
    WeakSet()
)  # blocks that were seen to, as `verify` sees all


def record(
    blocks: Blocks, keep: Transform = lambda resid: resid
) -> AbstractContextManager[dict[int, Tensor]]:
    """What leaves each block? Fills {block: keep(residual [B, P, D])} at every forward pass.

    `keep` picks what is worth the memory, the last position say; it runs on the model's device.
    """
    return _recorded([block.register_forward_hook for block in blocks], keep)


def record_inputs(
    modules: Blocks, keep: Transform = lambda x: x
) -> AbstractContextManager[dict[int, Tensor]]:
    """What enters each module? Fills {module: keep(its first input)} at every forward pass."""
    return _recorded([module.register_forward_pre_hook for module in modules], keep)


def edit(blocks: Blocks, transforms: Mapping[int, Transform]) -> AbstractContextManager[None]:
    """What if a block had said something else? Makes block i's residual transforms[i](residual).

    Raises:
        ValueError: no such block; or, at the forward pass, a transform that changes the residual's
            shape or type, or writes into it.
    """
    return _edited([block.register_forward_hook for block in blocks], transforms)


def edit_inputs(
    modules: Blocks, transforms: Mapping[int, Transform]
) -> AbstractContextManager[None]:
    """What if a module had been given something else? Input of module i: transforms[i](input).

    Raises:
        ValueError: as `edit` does.
    """
    return _edited([module.register_forward_pre_hook for module in modules], transforms)


@contextmanager
def resume(blocks: Blocks, block: int, resid: Tensor) -> Iterator[None]:
    """What follows if `block` has said `resid`? It and the blocks before it are not computed.

    Hooks at `block` see `resid` as its output; those at earlier blocks see what does not matter.
    Known limit: blocks that give tuples must have been recorded once, as they are when loaded.
    """
    skipped = list(blocks)[: block + 1]
    with _instead(dict.fromkeys(skipped, _handed_on) | {skipped[-1]: lambda _: resid}):
        yield


@contextmanager
def ending(blocks: Blocks, block: int, norm: nn.Module) -> Iterator[None]:
    """A pass that ends with `block`: what it says is handed on as it is, and comes out at the end.

    Later blocks and the final `norm` are not computed. Known limit: as of `resume`.
    """
    with _instead(dict.fromkeys([*list(blocks)[block + 1 :], norm], _handed_on)):
        yield


def _handed_on(resid: Tensor) -> Tensor:
    return resid


@contextmanager
def _instead(stand_ins: Mapping[nn.Module, Transform]) -> Iterator[None]:
    """Within the block, these modules compute something else, and give it in their own form."""

    def forward_of(module: nn.Module, transform: Transform) -> Callable[..., Any]:
        def forward(hidden_states: Tensor, *_: Any, **__: Any) -> Any:
            after = transform(hidden_states)
            return (after,) if module in _GIVE_TUPLES else after

        return forward

    for module, transform in stand_ins.items():
        module.forward = forward_of(module, transform)
    try:
        yield
    finally:
        for module in stand_ins:
            del module.forward


@contextmanager
def _recorded(register: Sequence[Register], keep: Transform) -> Iterator[dict[int, Tensor]]:
    seen: dict[int, Tensor] = {}

    def hook_for(index: int) -> Callable[..., None]:
        def hook(module: nn.Module, *passed: Any) -> None:  # inputs, then outputs if there are
            if len(passed) > 1 and isinstance(passed[1], tuple):
                _GIVE_TUPLES.add(module)
            seen[index] = keep(_residual(passed[-1]).detach())

        return hook

    with _until_left([one(hook_for(i)) for i, one in enumerate(register)]):
        yield seen


@contextmanager
def _edited(register: Sequence[Register], transforms: Mapping[int, Transform]) -> Iterator[None]:
    if unknown := [i for i in transforms if not 0 <= i < len(register)]:
        last = len(register) - 1
        raise ValueError(f"no such block: {unknown}; the model has blocks 0 to {last}")

    def hook_for(transform: Transform) -> Callable[..., Any]:
        def hook(_module: nn.Module, *passed: Any) -> Any:
            after = _applied(transform, _residual(passed[-1]))
            return after if isinstance(passed[-1], Tensor) else (after, *passed[-1][1:])

        return hook

    with _until_left([register[i](hook_for(t)) for i, t in transforms.items()]):
        yield


@contextmanager
def _until_left(handles: Sequence[RemovableHandle]) -> Iterator[None]:
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


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
