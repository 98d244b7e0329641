"""What of a tenant can be managed over the API?

Does not know: how any part does its work.
"""

from __future__ import annotations

from dataclasses import dataclass

from anzoth.db.pool import Database
from anzoth.gateway.keys import Pepper
from anzoth.gateway.models import ModelRegistry
from anzoth.gateway.organization.api_keys import ApiKeys
from anzoth.gateway.organization.projects import Projects
from anzoth.gateway.organization.rate_limits import RateLimits
from anzoth.gateway.organization.service_accounts import ServiceAccounts


@dataclass(slots=True, frozen=True)
class Organization:
    """Built once by the gateway process."""

    projects: Projects
    keys: ApiKeys
    service_accounts: ServiceAccounts
    rate_limits: RateLimits


def build(database: Database, pepper: Pepper, models: ModelRegistry) -> Organization:
    return Organization(
        Projects(database),
        ApiKeys(database, pepper),
        ServiceAccounts(database, pepper),
        RateLimits(database, models),
    )
