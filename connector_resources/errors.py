"""The error tree: each class says what happens next.

IntegrationError
├── ConfigurationError        a person must act; nothing is retried
│   ├── AuthenticationError   the other side refuses our credentials
│   │   └── ReconnectNeeded   the grant is gone, or nobody can tell: a person must let us in again
│   ├── Redirected            a request that changes something was sent elsewhere; carries whether it was certainly not done
│   ├── MappingOutdated       a mapping reads what is no longer there
│   └── BrakePulled           the run would change too much; it waits for an approval
├── RetryableError            the same call may succeed later
│   ├── NetworkError          no answer, or one that broke off
│   │   └── AnswerLost        what was sent may have been carried out all the same
│   ├── RateLimited           told to wait; carries for how long
│   │   └── QuotaReached      the calls that are set aside for others would be used up
│   └── SystemUnavailable     the other side answers, but cannot serve
├── RecordError               this record is set aside, the sync goes on
│   ├── InvalidRecord         breaks the entity's contract
│   ├── MappingFailed         a mapping rule could not be applied
│   └── ConflictPending       parked until a person decides
├── ContractError             the other side answered nonsense: stop
│   └── AnswerTooLarge        more than we take at once: ask for less
└── RequestRefused            somebody asks us for what they do not get; nothing is retried
    ├── NotSignedIn           we do not know who asks
    │   └── TenantNeeded      the password is right in several tenants; carries their names
    └── NotAllowed            we know who asks, and they may not

The message of an error is written for the person who reads it at night: it names the thing and the way out, and quotes no
value of a record and no secret.
"""

from typing import ClassVar


class IntegrationError(Exception):
    """Root of the tree. `error_type` is the word that sync_errors.error_type stores."""

    error_type: ClassVar[str] = "system"


class ConfigurationError(IntegrationError):
    error_type = "configuration"


class AuthenticationError(ConfigurationError):
    error_type = "authentication"


class ReconnectNeeded(AuthenticationError):
    """A person must sign in once more; the credentials stay as they are until then."""


class Redirected(ConfigurationError):
    """A request that changes something was answered with another place, where it is not sent. `undone`: it was certainly not
    carried out (RFC 9110, 15.4.8 and 15.4.9); of other redirects many come after the work was done."""

    def __init__(self, message: str, *, undone: bool = False) -> None:
        super().__init__(message)
        self.undone = undone


class MappingOutdated(ConfigurationError):
    error_type = "mapping"


class BrakePulled(ConfigurationError):
    error_type = "brake"


class RetryableError(IntegrationError):
    error_type = "network"


class NetworkError(RetryableError):
    pass


class AnswerLost(NetworkError):
    """A write went out and its answer did not come back whole: probe before it is sent again."""


class RateLimited(RetryableError):
    """Told to wait. `wait` is in seconds; None when the other side did not say."""

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


class QuotaReached(RateLimited):
    """The calls that are set aside for others would be used up. `wait`: seconds until some have come back."""


class SystemUnavailable(RetryableError):
    """The other side answers, but cannot serve. `wait` in seconds when it said how long (Retry-After)."""

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


class RecordError(IntegrationError):
    error_type = "validation"


class InvalidRecord(RecordError):
    pass


class MappingFailed(RecordError):
    error_type = "mapping"


class ConflictPending(RecordError):
    error_type = "conflict"


class ContractError(IntegrationError):
    error_type = "contract"


class AnswerTooLarge(ContractError):
    """More than is taken in one piece."""


class RequestRefused(IntegrationError):
    error_type = "authentication"


class NotSignedIn(RequestRefused):
    pass


class TenantNeeded(NotSignedIn):
    """The password is right in several tenants. `tenants` are their names, in order."""

    def __init__(self, message: str, tenants: tuple[str, ...]) -> None:
        super().__init__(message)
        self.tenants = tenants


class NotAllowed(RequestRefused):
    pass
