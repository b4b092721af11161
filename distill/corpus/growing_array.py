"""An array that grows: large blocks, so that millions of small pieces do not hold the memory between them."""

import numpy as np

_ROWS = 1 << 19


class Blocks:
    """Rows of one type, added piece by piece."""

    def __init__(self, dtype: type | np.dtype, *shape: int) -> None:
        """Begin without rows; each will be of ``shape``."""
        self._dtype, self._shape = dtype, shape
        self._blocks: list[np.ndarray] = []
        self._used = _ROWS

    def append(self, rows: np.ndarray) -> None:
        """Copy rows, (n, *shape), to the end."""
        while len(rows):
            if self._used == _ROWS:
                self._blocks.append(np.empty((_ROWS, *self._shape), self._dtype))
                self._used = 0
            fitting = rows[:_ROWS - self._used]
            self._blocks[-1][self._used:self._used + len(fitting)] = fitting
            self._used += len(fitting)
            rows = rows[len(fitting):]

    def array(self) -> np.ndarray:
        """Return all rows, and forget them."""
        blocks, self._blocks = self._blocks, []
        if blocks:
            blocks[-1] = blocks[-1][:self._used]
        self._used = _ROWS
        return np.concatenate([*blocks, np.empty((0, *self._shape), self._dtype)])
