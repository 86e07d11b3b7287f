"""``functools.cached_property`` without the lock that it has before Python 3.12.

That lock is one for all instances of a class: threads with a photo each would wait for one another, and a child that is
forked while another thread holds it would wait for ever.
"""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or sys.version_info >= (3, 12):
    from functools import cached_property
else:

    class cached_property(functools.cached_property):  # noqa: N801  the name it stands in for
        """Two threads that ask the same instance at once may both compute; the last value stays."""

        def __get__(self, instance: Any, owner: type[Any] | None = None) -> Any:
            if instance is None:
                return self
            value = vars(instance)[self.attrname] = self.func(instance)
            return value


__all__ = ["cached_property"]
