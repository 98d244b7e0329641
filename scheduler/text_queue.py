"""Which text of those that wait is computed next?

Always one of the tenant for whom the fewest tokens were computed, in turn from that tenant's
requests. A text is taken whole.

Does not know: steps, budgets, or why a text may have to wait.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from anzoth.scheduler.texts import Text


@dataclass(slots=True, eq=False)
class Request:
    """A request with texts that wait."""

    number: int
    tenant: str
    texts: list[Text] = field(repr=False)
    dimensions: int | None
    is_background: bool
    arrival_s: float
    next_text: int = 0

    @property
    def num_waiting_tokens(self) -> int:
        return sum(map(len, self.texts[self.next_text :]))


@dataclass(slots=True, eq=False)
class _Tenant:
    """Whose requests wait, in turn, and how many tokens were computed for them lately."""

    num_tokens: int
    requests: deque[Request] = field(default_factory=deque)


class TextQueue:
    """The texts of some requests, tenant by tenant in fair turns."""

    def __init__(self) -> None:
        self.num_requests = 0
        self.num_tokens = 0
        """Of the texts that wait."""
        self._tenants: dict[str, _Tenant] = {}
        """Those with requests that wait."""

    def __bool__(self) -> bool:
        return bool(self._tenants)

    def add(self, request: Request) -> None:
        if request.tenant not in self._tenants:
            # Not from zero: whoever was away must not be served alone until it has caught up.
            least = min((tenant.num_tokens for tenant in self._tenants.values()), default=0)
            self._tenants[request.tenant] = _Tenant(least)
        self._tenants[request.tenant].requests.append(request)
        self.num_requests += 1
        self.num_tokens += request.num_waiting_tokens

    def remove(self, request: Request) -> None:
        """One that waits."""
        self.num_tokens -= request.num_waiting_tokens
        tenant = self._tenants[request.tenant]
        tenant.requests.remove(request)
        self._forget(request, tenant)

    def peek(self) -> int | None:
        """How many tokens the next text has. None: there is none."""
        if not self._tenants:
            return None
        _, request = self._next()
        return len(request.texts[request.next_text])

    def take(self) -> tuple[Request, int]:
        """The next text: its request and its place there. There must be one."""
        tenant, request = self._next()
        index = request.next_text
        num_tokens = len(request.texts[index])
        request.next_text += 1
        tenant.num_tokens += num_tokens
        self.num_tokens -= num_tokens
        tenant.requests.rotate(-1)
        if request.next_text == len(request.texts):
            tenant.requests.pop()
            self._forget(request, tenant)
        return request, index

    def _next(self) -> tuple[_Tenant, Request]:
        tenant = min(self._tenants.values(), key=lambda tenant: tenant.num_tokens)
        return tenant, tenant.requests[0]

    def _forget(self, request: Request, tenant: _Tenant) -> None:
        self.num_requests -= 1
        if not tenant.requests:
            del self._tenants[request.tenant]
