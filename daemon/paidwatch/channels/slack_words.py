"""What Slack's error words mean: whose fault each is, for incoming webhooks and for the Web API.

Words as documented for incoming webhooks, `chat.postMessage` and `chat.update`. A word that is not listed is never
repeated: it may be an echo of what was sent.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from paidwatch.channels.http import Answer, refuse
from paidwatch.errors import DeliveryError, Fault

_BARE_REQUEST: Final = frozenset({400, 413, 422})


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """The error words of one of Slack's interfaces."""

    ours: frozenset[str]
    """The message is malformed: once more as plain text, and never again."""
    broken: frozenset[str]
    """A person must repair the channel."""
    passing: frozenset[str]
    """Later it may work."""
    lost: frozenset[str] = frozenset()
    """The message that was to be edited is out of reach: to be posted anew."""

    def of(self, answer: Answer) -> str:
        """Return the answer's word, empty where it is none that is known."""
        said = answer.json().get("error") or answer.body.decode("utf-8", "replace").strip()
        known = self.ours | self.broken | self.passing | self.lost
        return said if isinstance(said, str) and said in known else ""

    def blames_the_message(self, answer: Answer) -> bool:
        """Whether it is malformed: by its word, or by a 4xx about the request without a known word."""
        word = self.of(answer)
        return word in self.ours or (not word and answer.status in _BARE_REQUEST)

    def refusal(self, answer: Answer, *, now: datetime) -> DeliveryError:
        """Return the error that the word, or else the status, stands for."""
        word = self.of(answer)
        fault: Fault | None = None
        if word in self.broken:
            fault = Fault.CHANNEL
        elif word in self.passing:
            fault = Fault.TRANSIENT
        elif word in self.ours:
            fault = Fault.MESSAGE
        without = "without ok" if answer.status == 200 else ""  # noqa: PLR2004
        return refuse("Slack", answer, now=now, fault=fault, code=word or without)


WEBHOOK: Final = Words(
    ours=frozenset({"invalid_payload", "invalid_blocks", "no_text", "too_many_attachments"}),
    broken=frozenset(
        {
            "no_service",
            "no_service_id",
            "no_active_hooks",
            "no_team",
            "team_disabled",
            "invalid_token",
            "channel_not_found",
            "channel_is_archived",
            "action_prohibited",
            "posting_to_general_channel_denied",
        }
    ),
    passing=frozenset({"rate_limited", "rollup_error"}),
)

NO_REPLY: Final = frozenset(
    {"cannot_reply_to_message", "restricted_action_non_threadable_channel", "restricted_action_thread_locked"}
)
"""A message cannot be replied to; that it was edited is enough then."""

API: Final = Words(
    ours=WEBHOOK.ours
    | NO_REPLY
    | {
        "block_mismatch",
        "invalid_arguments",
        "invalid_attachments",
        "invalid_blocks_format",
        "invalid_json",
        "json_not_object",
        "msg_blocks_too_long",
        "msg_too_long",
    },
    broken=WEBHOOK.broken
    | {
        "access_denied",
        "accesslimited",
        "account_inactive",
        "ekm_access_denied",
        "enterprise_is_restricted",
        "invalid_auth",
        "is_archived",
        "is_bot",
        "is_inactive",
        "messages_tab_disabled",
        "method_deprecated",
        "missing_scope",
        "no_permission",
        "not_allowed_token_type",
        "not_authed",
        "not_in_channel",
        "restricted_action",
        "restricted_action_read_only_channel",
        "restricted_action_thread_only_channel",
        "team_access_not_granted",
        "team_not_found",
        "token_expired",
        "token_revoked",
        "two_factor_setup_required",
        "unknown_method",
    },
    passing=WEBHOOK.passing
    | {
        "external_channel_migrating",
        "fatal_error",
        "internal_error",
        "message_limit_exceeded",
        "org_login_required",
        "ratelimited",
        "request_timeout",
        "service_unavailable",
        "team_added_to_org",
        "update_failed",
    },
    lost=frozenset({"cant_update_message", "edit_window_closed", "message_not_found"}),
)

ELSEWHERE: Final = frozenset({"channel_not_found", "is_archived", "is_inactive", "not_in_channel"})
"""On an edit: the channel of the old message is out of reach, which says nothing about the configured one."""
