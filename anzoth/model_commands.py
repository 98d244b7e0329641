"""What may an operator's command ask the supervisor to do with the models?

    {"do": "list"}                                   {"models": […]}
    {"do": "load", "table": {a [[models]] table}}    events while it loads, then the model
    {"do": "unload", "model": name, "drain_s": …}    {}

Does not know: sockets, or how a model is started and stopped.
"""

from __future__ import annotations

from collections.abc import Mapping

from anzoth import config as configuration
from anzoth.config import Config, ConfigError
from anzoth.control import ControlError, Fields, Handler, Tell
from anzoth.model_host import ModelHost


def handlers(host: ModelHost, config: Config) -> Mapping[str, Handler]:
    """What the control socket of this installation answers."""

    async def list_(_request: Fields, _tell: Tell) -> Fields:
        return {"models": host.describe()}

    async def load(request: Fields, tell: Tell) -> Fields:
        try:
            model = configuration.model_of_table(
                request["table"], config.engine, config.server.data_dir
            )
        except ConfigError as error:
            raise ControlError(str(error)) from error
        return await host.load(model, tell)

    async def unload(request: Fields, _tell: Tell) -> Fields:
        await host.unload(request["model"], request.get("drain_s"))
        return {}

    return {"list": list_, "load": load, "unload": unload}
