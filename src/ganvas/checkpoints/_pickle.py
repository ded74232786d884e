"""An interpreter of pickles that runs nothing: few opcodes, and only the globals that a vocabulary lists.

The opcodes: https://peps.python.org/pep-0307/, https://peps.python.org/pep-3154/ and Python's pickletools. A global is
never looked up: it becomes a ``GlobalName``, and calling one runs ganvas's own function of that name in the vocabulary. What
isn't listed is refused at the moment it is named, before anything after it is read.

``pickle.Unpickler`` with an allow-list, and ``torch.load(weights_only=True)``, keep code out and no more. Both hash a key
that is a nest of shared tuples, n deep, in 2ⁿ steps; the first makes a memo as large as the index that a file puts something
at, and the second calls ``bytearray`` with whatever size it is given. Nothing can be hooked in there, and to see it
beforehand takes a stack and a memo, which is what this is. ``tests/test_hostile_sizes.py`` has files that they let through.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ganvas.checkpoints._budget import TOO_MANY, ReadBudget, printable

MAX_STACK = 100_000
"""Values that wait on the stack."""
MAX_MARKS = 100
"""Containers open inside one another."""
MAX_INT_BYTES = 16
"""Of the longest whole number: the magic number of torch's files has ten."""

Call = Callable[..., Any]
Vocabulary = Mapping[tuple[str, str], "Call | None"]
"""(module, name) -> what calling it does here; None where it may be named and not called."""


@dataclass(frozen=True)
class GlobalName:
    """A global that the file named: two texts, and nothing else."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass
class ObjectRecord:
    """What an object of a class came with: its class's name and its attributes, no behaviour."""

    kind: str
    state: dict[Any, Any] = field(default_factory=dict)


class PickleMachine:
    """Reads one pickle of ``data``, from ``at`` on; ``at`` is then where it ended.

    ``persistent`` makes values of persistent ids; without it they are refused.
    """

    def __init__(
        self,
        data: memoryview,
        vocabulary: Vocabulary,
        budget: ReadBudget,
        persistent: Call | None = None,
        at: int = 0,
    ) -> None:
        self.data, self.vocabulary, self.budget, self.persistent, self.at = data, vocabulary, budget, persistent, at
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        """The value of the pickle. Raises GanvasError for all that isn't a plain checkpoint's."""
        try:
            while (code := self._take(1)[0]) != STOP:
                self.budget.spend(1)
                if len(self.stack) > MAX_STACK:
                    raise self.budget.refused(TOO_MANY)
                if code not in OPCODES:
                    raise self.budget.refused(f"uses the opcode {_opcode(code)}, which checkpoints don't need")
                OPCODES[code](self)
            return self._pop()
        except UnicodeDecodeError:
            raise self.budget.damaged("it holds a text that isn't UTF-8") from None

    # What opcodes are made of.

    def _take(self, size: int) -> memoryview:
        if size > len(self.data) - self.at:
            raise self.budget.damaged("it is cut short")
        self.at += size
        return self.data[self.at - size : self.at]

    def _number(self, form: str) -> Any:
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _line(self) -> str:
        """A text up to the next line's end, of at most 300 characters."""
        found = bytes(self.data[self.at : self.at + 300])
        if b"\n" not in found:
            raise self.budget.damaged("a name in it has no end")
        return bytes(self._take(found.index(b"\n") + 1))[:-1].decode()

    def _pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise self.budget.damaged("it takes values that it never gave")
        return self.stack.pop()

    def _to_mark(self) -> list[Any]:
        if not self.marks:
            raise self.budget.damaged("it closes what it never opened")
        start = self.marks.pop()
        found = self.stack[start:]
        del self.stack[start:]
        return found

    def _top(self, *kinds: type) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0) or not isinstance(self.stack[-1], kinds):
            raise self.budget.damaged("it fills what isn't a container")
        return self.stack[-1]

    def _push(self, value: Any) -> None:
        self.stack.append(value)

    # Opcodes, by what they do.

    def mark(self) -> None:
        """Open a container."""
        if len(self.marks) >= MAX_MARKS:
            raise self.budget.refused(f"nests more than {MAX_MARKS} containers")
        self.marks.append(len(self.stack))

    def protocol(self) -> None:
        """Protocols 2 to 5 are read."""
        if not 2 <= (number := self._number("<B")) <= 5:
            raise self.budget.refused(f"has pickle protocol {number}")

    def long(self) -> None:
        """A whole number of a few bytes."""
        size = self._number("<B")
        if size > MAX_INT_BYTES:
            raise self.budget.refused(f"holds a whole number of {size} bytes")
        self._push(int.from_bytes(self._take(size), "little", signed=True))

    def tuple_(self, size: int | None = None) -> None:
        """``size`` values, or those since the mark."""
        values = self._to_mark() if size is None else [self._pop() for _ in range(size)][::-1]
        self._push(tuple(values))

    def append(self, many: bool) -> None:
        """One value or all since the mark, to a list."""
        values = self._to_mark() if many else [self._pop()]
        self._top(list).extend(values)

    def add(self) -> None:
        """The values since the mark, to a set."""
        values = self._to_mark()
        self._top(set).update(map(self._key, values))

    def set(self, many: bool) -> None:
        """One pair or all since the mark, into a mapping."""
        values = self._to_mark() if many else [self._pop(), self._pop()][::-1]
        if len(values) % 2:
            raise self.budget.damaged("a mapping in it has a key without a value")
        target = self._top(dict)
        for key, value in zip(values[::2], values[1::2], strict=True):
            target[self._key(key)] = value

    def _key(self, value: Any) -> str | int:
        # Nothing else: hashing a nest of tuples would take for ever, or all of C's stack.
        if type(value) not in (str, int):
            raise self.budget.refused("has a mapping or set of other things than texts and whole numbers")
        return value

    def remember(self, form: str = "") -> None:
        """Put the top value into the memo, at the next place or at the one that follows."""
        self.memo[self._number(form) if form else len(self.memo)] = self._top(object)

    def recall(self, form: str) -> None:
        """A value of the memo."""
        place = self._number(form)
        if place not in self.memo:
            raise self.budget.damaged("it recalls what it never had")
        self._push(self.memo[place])

    def name(self, stacked: bool) -> None:
        """A global, if the vocabulary has it."""
        if stacked:
            name, module = self._pop(), self._pop()
        else:
            module, name = self._line(), self._line()
        if not (type(module) is str and type(name) is str):
            raise self.budget.damaged("it names something by what isn't a text")
        if (module, name) not in self.vocabulary:
            raise self.budget.refused(f"asks for {printable(f'{module}.{name}')}, which no checkpoint needs")
        self._push(GlobalName(module, name))

    def call(self) -> None:
        """What the vocabulary says instead of a call."""
        arguments, target = self._pop(), self._pop()
        if not isinstance(target, GlobalName) or not isinstance(arguments, tuple):
            raise self.budget.refused("calls something that isn't a name")
        action = self.vocabulary[target.module, target.name]
        if action is None:
            raise self.budget.refused(f"calls {target}, which checkpoints only name")
        try:
            self._push(action(*arguments))
        except TypeError:  # as many arguments as it doesn't take, or of other types
            raise self.budget.damaged(f"it calls {target} with what that doesn't take") from None

    def build(self) -> None:
        """Give an object its attributes: kept for records, dropped for mappings (a state dict's version numbers)."""
        state, target = self._pop(), self._top(ObjectRecord, dict)
        if isinstance(target, ObjectRecord):
            found = state if isinstance(state, dict) else {"state": state}
            self.budget.spend(len(found))  # one mapping can be given to many objects
            target.state.update(found)

    def persist(self) -> None:
        """A persistent id: torch's storages."""
        if self.persistent is None:
            raise self.budget.refused("uses a persistent id where none belongs")
        self._push(self.persistent(self._pop()))

    def text(self, form: str) -> None:
        """Characters in UTF-8."""
        self._push(bytes(self._take(self._number(form))).decode())

    def octets(self, form: str) -> None:
        """Bytes, without a copy."""
        self._push(self._take(self._number(form)))

    def frame(self) -> None:
        """Only how much follows; each read checks that for itself."""
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


def _opcode(code: int) -> str:
    import pickletools

    names = {ord(opcode.code): opcode.name for opcode in pickletools.opcodes}
    return names.get(code, f"0x{code:02x}")
