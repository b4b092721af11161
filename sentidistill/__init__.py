"""A distilled student in a Python program::

    from sentidistill import load

    model = load("runs/mine")
    model("Room was tiny").label
"""

from sentidistill.model import Model, load

__all__ = ["Model", "load"]
