"""Endpoints: one provider for each, and the search for the one that has a model."""

from collections.abc import Callable

from wilson.domain.errors import ModelMissing, ProviderError, Unreachable
from wilson.domain.model import Endpoint, ModelChoice, ModelFacts, ModelSpec, Patience
from wilson.domain.profile import Profile
from wilson.domain.value import Struct
from wilson.providers.base import Provider

Open = Callable[[Endpoint, Patience], Provider]


class Found(Struct, frozen=True):
    """A model that can be had, and how to ask for it."""

    provider: Provider
    spec: ModelSpec
    facts: ModelFacts


class Endpoints:
    """Every provider that was ever needed; profiles come and go, running work keeps its own."""

    def __init__(self, open_provider: Open) -> None:
        self._open = open_provider
        self._providers: dict[tuple[Endpoint, Patience], Provider] = {}

    def provider(self, endpoint: Endpoint, patience: Patience) -> Provider:
        key = (endpoint, patience)
        if key not in self._providers:
            self._providers[key] = self._open(endpoint, patience)
        return self._providers[key]

    async def find(self, profile: Profile, choice: ModelChoice) -> Found:
        """The first healthy endpoint that has the model.

        Raises:
            Unreachable: no endpoint answers.
            ModelMissing: those that answer do not have it.
            ProviderError: one answers, and is no help for another reason.
        """
        failures: list[ProviderError] = []
        for endpoint in profile.endpoints_for(choice):
            provider = self.provider(endpoint, profile.patience)
            try:
                health = await provider.health()
                if not health.ok:
                    raise Unreachable(health.detail)
                facts = await provider.show(choice.model)
            except ProviderError as error:
                failures.append(error)
            else:
                return Found(provider, profile.spec(choice, endpoint, facts.context), facts)
        raise _worst(failures, choice)

    async def aclose(self) -> None:
        for provider in self._providers.values():
            await provider.aclose()


def _worst(failures: list[ProviderError], choice: ModelChoice) -> ProviderError:
    """What to tell when every endpoint failed: a server that lacks the model says more than one that is off."""
    if len(failures) == 1:
        return failures[0]
    kind = ModelMissing if any(isinstance(failure, ModelMissing) for failure in failures) else Unreachable
    tried = "; ".join(str(failure) for failure in failures)
    return kind(f"no endpoint can serve {choice.model}: {tried}")
