"""Memory of large outputs that is used again."""

import math
import weakref

import numpy as np

from gossamer.engine.fields import Floats, Shape

LARGE = 2**18
"""Numbers from which on memory is kept: to get it anew takes as long as to write it."""


class Reused:
    """Arrays for one output after the other; threads may share it.

    The memory of the last one is kept, and given again once nobody holds that array or a view of
    it. So an array stays as it is for as long as it is held, as any other does.

    Examples
    --------
    >>> reused = Reused()
    >>> first = reused.empty((2, LARGE))
    >>> first[:] = 1
    >>> part = first[1, :3]
    >>> del first
    >>> second = reused.empty((2, LARGE))
    >>> second[:] = 2
    >>> part.tolist()
    [1.0, 1.0, 1.0]
    """

    def __init__(self) -> None:
        self._kept: list[tuple[Floats, weakref.ref[Floats]]] = []
        """Memory, and the array that was last made of it: all views of that hold it."""

    def empty(self, shape: Shape) -> Floats:
        """Return an array whose numbers are still to be written."""
        count = math.prod(shape)
        if count < LARGE:
            return np.empty(shape, np.float32)
        try:
            block, given = self._kept.pop()  # so that another thread finds none
            free = block.size == count and given() is None
        except IndexError:
            free = False
        if not free:
            block = np.empty(count, np.float32)
        array: Floats = np.frombuffer(block.data, np.float32)
        self._kept.append((block, weakref.ref(array)))
        return array.reshape(shape)
