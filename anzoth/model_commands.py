"""What may an operator's command ask the supervisor to do with the models?

    {"do": "list"}                                   {"models": […]}
    {"do": "load", "table": {a [[models]] table}}    events while it loads, then the model
    {"do": "unload", "model": name, "drain_s": …}    {}

Does not know: sockets, or how a model is started and stopped.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import asyncpg

from anzoth import model_config
from anzoth.config import Config, ConfigError
from anzoth.control import ControlError, Fields, Handler, Tell
from anzoth.db import pool
from anzoth.db.errors import DatabaseError
from anzoth.gateway import audit
from anzoth.gateway.audit import AuditEvent, InvalidEvent
from anzoth.model_host import ModelHost

_log = logging.getLogger(__name__)


def handlers(host: ModelHost, config: Config, dsn: str) -> Mapping[str, Handler]:
    """What the control socket of this installation answers. `dsn`: of its audit log."""

    async def list_(_request: Fields, _tell: Tell) -> Fields:
        return {"models": host.describe()}

    async def load(request: Fields, tell: Tell) -> Fields:
        try:
            model = model_config.model_of_table(
                request["table"], config.engine, config.server.data_dir
            )
        except ConfigError as error:
            raise ControlError(str(error)) from error
        loaded = await host.load(model, tell)
        details = {
            "path": str(model.path),
            "aliases": list(model.aliases),
            "prices": {name: price.shown() for name, price in model.prices.items()},
        }
        await _record(dsn, "model.loaded", model.name, details)
        return loaded

    async def unload(request: Fields, _tell: Tell) -> Fields:
        await host.unload(request["model"], request.get("drain_s"))
        await _record(dsn, "model.unloaded", request["model"], {})
        return {}

    return {"list": list_, "load": load, "unload": unload}


async def _record(dsn: str, type: str, name: str, details: Mapping[str, Any]) -> None:
    """What was done stays done; this process' own log has it when the database is away."""
    event = AuditEvent(type, audit.operator(), None, target={"id": name}, details=details)
    try:
        async with pool.operator(dsn) as connection:
            await audit.record(connection, event)
    except (DatabaseError, InvalidEvent, asyncpg.PostgresError) as error:
        _log.error("%s %s is not in the audit log: %s", type, name, error)
