"""An interpreter of pickles that runs no code of theirs: few opcodes, and only the globals that a vocabulary lists.

The opcodes: https://peps.python.org/pep-0307/, https://peps.python.org/pep-3154/ and Python's pickletools. A global is
never looked up: it becomes a ``GlobalName``, and calling one runs ganvas's own function for that name in the vocabulary. A name
that isn't listed is refused at once, before anything after it is read.

``pickle.Unpickler`` with an allow-list, and ``torch.load(weights_only=True)``, keep out code, but not excessive memory or time.
Both hash a key that is a nest of shared tuples, n deep, in 2ⁿ steps; the first allocates a memo as large as the largest index in
the file, and the second calls ``bytearray`` with any size. Neither has hooks there, and a check beforehand would need a stack and
a memo, which is this module. ``tests/test_hostile_sizes.py`` has files that both accept.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import NoneType
from typing import Any

from ganvas.checkpoints._budget import STEP_LIMIT_REASON, ReadBudget, format_printable

MAX_STACK = 100_000
"""The most values on the stack."""
MAX_MARKS = 100
"""The most containers open inside one another."""
MAX_INT_BYTES = 16
"""Bytes of the longest integer: the magic number of torch's files has ten."""

Call = Callable[..., Any]
Vocabulary = Mapping[tuple[str, str], "Call | None"]
"""(module, name) -> the function that replaces a call; None where the global may be named but not called."""


@dataclass(frozen=True)
class GlobalName:
    """A global that the file named."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass
class ObjectRecord:
    """The class name and the attributes of an object in the file."""

    kind: str
    state: dict[Any, Any] = field(default_factory=dict)


class PickleMachine:
    """A reader of the pickle in ``data`` that begins at ``at``, which is then where it ended.

    ``persistent`` converts persistent ids to values; without it they are refused. ``is_layer_class(module, name)``: whether an
    unlisted global may be the class of a pickled module; calling one without arguments makes an empty ``ObjectRecord``.
    """

    def __init__(
        self,
        data: memoryview,
        vocabulary: Vocabulary,
        budget: ReadBudget,
        persistent: Call | None = None,
        at: int = 0,
        is_layer_class: Callable[[str, str], bool] | None = None,
    ) -> None:
        self.data, self.vocabulary, self.budget, self.persistent, self.at = data, vocabulary, budget, persistent, at
        self.is_layer_class = is_layer_class
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        """Return the value of the pickle. Raises GanvasError for anything that a plain checkpoint doesn't have."""
        try:
            while (code := self._take(1)[0]) != STOP:
                self.budget.spend(1)
                if len(self.stack) > MAX_STACK:
                    raise self.budget.refusal(STEP_LIMIT_REASON)
                if code not in OPCODES:
                    raise self.budget.refusal(f"uses the opcode {_name_opcode(code)}, which checkpoints don't need")
                OPCODES[code](self)
            return self._pop()
        except UnicodeDecodeError:
            raise self.budget.damage("it holds a text that isn't UTF-8") from None

    # Parts of opcodes.

    def _take(self, size: int) -> memoryview:
        if size > len(self.data) - self.at:
            raise self.budget.damage("it is cut short: download it again")
        self.at += size
        return self.data[self.at - size : self.at]

    def _number(self, form: str) -> Any:
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _line(self) -> str:
        """Read a text up to the next line's end, of at most 300 characters."""
        text = bytes(self.data[self.at : self.at + 300])
        if b"\n" not in text:
            raise self.budget.damage("a name in it has no end")
        return bytes(self._take(text.index(b"\n") + 1))[:-1].decode()

    def _pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise self.budget.damage("it takes values from an empty stack")
        return self.stack.pop()

    def _to_mark(self) -> list[Any]:
        if not self.marks:
            raise self.budget.damage("it closes a container that it never opened")
        start = self.marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def _top(self, *kinds: type) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0) or not isinstance(self.stack[-1], kinds):
            raise self.budget.damage("it fills a value that isn't a container")
        return self.stack[-1]

    def _push(self, value: Any) -> None:
        self.stack.append(value)

    # Opcodes.

    def mark(self) -> None:
        """Open a container."""
        if len(self.marks) >= MAX_MARKS:
            raise self.budget.refusal(f"nests more than {MAX_MARKS} containers")
        self.marks.append(len(self.stack))

    def protocol(self) -> None:
        """Check the protocol: 2 to 5 are read."""
        if not 2 <= (number := self._number("<B")) <= 5:
            raise self.budget.refusal(f"has pickle protocol {number}")

    def long(self) -> None:
        """Push an integer of a few bytes."""
        size = self._number("<B")
        if size > MAX_INT_BYTES:
            raise self.budget.refusal(f"holds an integer of {size} bytes")
        self._push(int.from_bytes(self._take(size), "little", signed=True))

    def tuple_(self, size: int | None = None) -> None:
        """Push a tuple of ``size`` values, or of those since the mark."""
        values = self._to_mark() if size is None else [self._pop() for _ in range(size)][::-1]
        self._push(tuple(values))

    def append(self, many: bool) -> None:
        """Append one value, or all since the mark, to a list."""
        values = self._to_mark() if many else [self._pop()]
        target = self._top(list, ObjectRecord)
        if isinstance(target, list):  # a class's own kind of list holds options, which aren't needed
            target.extend(values)

    def add(self) -> None:
        """Add the values since the mark to a set."""
        values = self._to_mark()
        self._top(set).update(map(self._key, values))

    def set(self, many: bool) -> None:
        """Put one pair, or all since the mark, into a mapping."""
        values = self._to_mark() if many else [self._pop(), self._pop()][::-1]
        if len(values) % 2:
            raise self.budget.damage("a mapping in it has a key without a value")
        target = self._top(dict, ObjectRecord)
        target = target.state if isinstance(target, ObjectRecord) else target
        for key, value in zip(values[::2], values[1::2], strict=True):
            target[self._key(key)] = value

    def _key(self, value: Any) -> str | float | None:
        if isinstance(value, GlobalName):  # Lightning's callbacks are keyed by their classes
            return str(value)
        # Hashing nested tuples could take for ever, or all of C's stack.
        if type(value) not in (str, int, float, bool, NoneType):
            raise self.budget.refusal("has a mapping or set of other things than texts and integers")
        return value

    def remember(self, form: str = "") -> None:
        """Put the top value into the memo, at the next place or at the one that the file gives."""
        self.memo[self._number(form) if form else len(self.memo)] = self._top(object)

    def recall(self, form: str) -> None:
        """Push a value of the memo."""
        place = self._number(form)
        if place not in self.memo:
            raise self.budget.damage("it recalls a value that it never stored")
        self._push(self.memo[place])

    def name(self, stacked: bool) -> None:
        """Push a global, if the vocabulary has it."""
        if stacked:
            name, module = self._pop(), self._pop()
        else:
            module, name = self._line(), self._line()
        if not (type(module) is str and type(name) is str):
            raise self.budget.damage("the name of a global in it isn't a text")
        is_class = self.is_layer_class is not None and self.is_layer_class(module, name)
        if (module, name) not in self.vocabulary and not is_class:
            raise self.budget.refusal(f"refers to {format_printable(f'{module}.{name}')}, which no checkpoint needs")
        self._push(GlobalName(module, name))

    def call(self) -> None:
        """Push the result of the vocabulary's function instead of a call."""
        arguments, target = self._pop(), self._pop()
        if not isinstance(target, GlobalName) or not isinstance(arguments, tuple):
            raise self.budget.refusal("calls something that isn't a name")
        if (target.module, target.name) not in self.vocabulary and not arguments:
            self._push(ObjectRecord(str(target)))
            return
        action = self.vocabulary.get((target.module, target.name))
        if action is None:
            raise self.budget.refusal(f"calls {target}, which checkpoints only name")
        try:
            self._push(action(*arguments))
        except TypeError:
            raise self.budget.damage(f"it calls {target} with the wrong arguments") from None

    def build(self) -> None:
        """Set an object's attributes; those of mappings (a state dict's version numbers) are dropped."""
        state, target = self._pop(), self._top(ObjectRecord, dict)
        if isinstance(target, ObjectRecord):
            attributes = state if isinstance(state, dict) else {"state": state}
            self.budget.spend(len(attributes))  # one mapping can be given to many objects
            target.state.update(attributes)

    def persist(self) -> None:
        """Push the value of a persistent id: torch's storages."""
        if self.persistent is None:
            raise self.budget.refusal("uses a persistent id where none belongs")
        self._push(self.persistent(self._pop()))

    def text(self, form: str) -> None:
        """Push a text in UTF-8."""
        self._push(bytes(self._take(self._number(form))).decode())

    def octets(self, form: str) -> None:
        """Push bytes, without a copy."""
        self._push(self._take(self._number(form)))

    def frame(self) -> None:
        """Skip the size of a frame, since each read checks its own."""
        self._number("<Q")


STOP = ord(".")
OPCODES: dict[int, Callable[[PickleMachine], None]] = {
    ord(code): action
    for code, action in {
        "\x80": PickleMachine.protocol,
        "\x95": PickleMachine.frame,
        "(": PickleMachine.mark,
        "N": lambda m: m._push(None),
        "\x88": lambda m: m._push(True),
        "\x89": lambda m: m._push(False),
        "K": lambda m: m._push(m._number("<B")),
        "M": lambda m: m._push(m._number("<H")),
        "J": lambda m: m._push(m._number("<i")),
        "G": lambda m: m._push(m._number(">d")),
        "\x8a": PickleMachine.long,
        "X": lambda m: m.text("<I"),
        "\x8c": lambda m: m.text("<B"),
        "B": lambda m: m.octets("<I"),
        "C": lambda m: m.octets("<B"),
        "\x8e": lambda m: m.octets("<Q"),
        "\x96": lambda m: m.octets("<Q"),
        "}": lambda m: m._push({}),
        "]": lambda m: m._push([]),
        "\x8f": lambda m: m._push(set()),
        ")": lambda m: m._push(()),
        "t": PickleMachine.tuple_,
        "\x85": lambda m: m.tuple_(1),
        "\x86": lambda m: m.tuple_(2),
        "\x87": lambda m: m.tuple_(3),
        "a": lambda m: m.append(False),
        "e": lambda m: m.append(True),
        "\x90": PickleMachine.add,
        "s": lambda m: m.set(False),
        "u": lambda m: m.set(True),
        "\x94": PickleMachine.remember,
        "q": lambda m: m.remember("<B"),
        "r": lambda m: m.remember("<I"),
        "h": lambda m: m.recall("<B"),
        "j": lambda m: m.recall("<I"),
        "c": lambda m: m.name(False),
        "\x93": lambda m: m.name(True),
        "R": PickleMachine.call,
        "\x81": PickleMachine.call,
        "b": PickleMachine.build,
        "Q": PickleMachine.persist,
    }.items()
}


def _name_opcode(code: int) -> str:
    import pickletools

    names = {ord(opcode.code): opcode.name for opcode in pickletools.opcodes}
    return names.get(code, f"0x{code:02x}")
