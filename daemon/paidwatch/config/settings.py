"""The whole configuration, as one frozen tree."""

from collections.abc import Iterator, Mapping
from typing import Any, Self, cast

from pydantic import BaseModel, Field, PrivateAttr, SecretStr, ValidationInfo, field_validator

from paidwatch.config.activation import Activation
from paidwatch.config.alerts import Alerts
from paidwatch.config.application import Events, Payments, Plans, Users, Webhooks
from paidwatch.config.channels import Channel
from paidwatch.config.locate import Path
from paidwatch.config.origin import Origins
from paidwatch.config.providers import Providers
from paidwatch.config.section import Section
from paidwatch.config.sections import (
    Daemon,
    Database,
    Deliveries,
    Grace,
    Http,
    LogSettings,
    Reconcile,
    Retention,
    VerdictRules,
)
from paidwatch.config.session import SuccessPage
from paidwatch.config.values import Name
from paidwatch.config.wrong import Wrong


class Settings(Section):
    """Everything an owner may choose; made by `load`, which also keeps where each value came from."""

    database: Database
    """See [database]."""
    grace: Grace = Grace()
    """See [grace]."""
    payments: Payments = Payments()
    """See [payments]."""
    users: Users = Users()
    """See [users]."""
    plans: Plans = Plans()
    """See [plans]."""
    events: Events = Events()
    """See [events]."""
    webhooks: Webhooks = Webhooks()
    """See [webhooks]."""
    verdict: VerdictRules = VerdictRules()
    """See [verdict]."""
    reconcile: Reconcile = Reconcile()
    """See [reconcile]."""
    retention: Retention = Retention()
    """See [retention]."""
    activation: Activation = Activation()
    """See [activation]."""
    channels: dict[Name, Channel] = Field(default={})
    """See [channels.NAME]."""
    alerts: Alerts = Alerts()
    """See [alerts]."""
    deliveries: Deliveries = Deliveries()
    """See [deliveries]."""
    http: Http = Http()
    """See [http]."""
    success_page: SuccessPage = SuccessPage()
    """See [success_page]."""
    providers: Providers = Field(default={})
    """See [providers.NAME]."""
    log: LogSettings = LogSettings()
    """See [log]."""
    daemon: Daemon = Daemon()
    """See [daemon]."""

    @field_validator("retention")
    @classmethod
    def _not_forgotten_while_looked_for(cls, retention: Retention, info: ValidationInfo) -> Retention:
        if "reconcile" in info.data and retention.closed < info.data["reconcile"].look_back:
            what = "is shorter than reconcile.look_back, so payments that are over would be found and told anew"
            raise Wrong(
                what, "make it longer, or the other one shorter", other="reconcile.look_back", below=("closed",)
            )
        return retention

    _origins: Origins = PrivateAttr(default_factory=Origins)

    @classmethod
    def made(cls, tree: Mapping[str, object], origins: Origins) -> Self:
        """Validate `tree` and remember where its values came from; raises pydantic's ValidationError."""
        settings = cls.model_validate(tree)
        settings._origins = origins  # noqa: SLF001 - its own
        return settings

    @property
    def origins(self) -> Origins:
        """Where each value came from."""
        return self._origins

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is not wrong, but hardly meant: sentences without secrets."""
        from paidwatch.config.advice import advice  # noqa: PLC0415 - it needs this module

        return tuple(advice(self))

    def mapping(self) -> dict[str, Any]:
        """Return the description of the application's schema that `install` hands to the database, ready for JSON."""
        return {
            "time_zone": self.database.time_zone,
            "runtime_role": self.database.runtime_role,
            "two_phase": self.database.two_phase,
            "payments": self.payments.model_dump(mode="json"),
            "users": self.users.model_dump(mode="json"),
            "plans": self.plans.model_dump(mode="json"),
            "events": self.events.model_dump(mode="json"),
            "webhooks": self.webhooks.model_dump(mode="json"),
        }

    def secrets(self) -> frozenset[str]:
        """Return the text of every secret there is, for the redaction of logs and errors."""
        return frozenset(secret for _path, secret in _secrets_in(self, ()))

    def names(self) -> frozenset[str]:
        """Return the owner's own words for channels and providers, which are no secrets wherever they stand."""
        return frozenset((*self.channels, *self.providers))

    def secret_paths(self) -> tuple[Path, ...]:
        """Return the way to every secret that is set."""
        return tuple(path for path, _secret in _secrets_in(self, ()))

    def shown(self) -> str:
        """Return the effective configuration as TOML, secrets hidden, each value with its origin as a comment."""
        from paidwatch.config.shown import render  # noqa: PLC0415 - it needs this module

        return render(self)


def _secrets_in(value: object, path: Path) -> Iterator[tuple[Path, str]]:
    match value:
        case SecretStr():
            if text := value.get_secret_value():
                yield path, text
        case BaseModel():
            for name in type(value).model_fields:
                yield from _secrets_in(getattr(value, name), (*path, name))
        case dict():
            for key, item in cast("dict[str, object]", value).items():
                yield from _secrets_in(item, (*path, key))
        case tuple():
            for index, item in enumerate(cast("tuple[object, ...]", value)):
                yield from _secrets_in(item, (*path, index))
        case _:
            return


def schema() -> dict[str, Any]:
    """Return the JSON Schema of the configuration file."""
    return Settings.model_json_schema()
