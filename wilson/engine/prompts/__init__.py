"""The words that models are given; plain files, one for each agent."""

from functools import cache
from importlib import resources
from pathlib import Path

from wilson.domain.agent import Agent
from wilson.domain.errors import ConfigError


@cache
def shipped_prompt(name: str) -> str:
    """The instructions that ship under ``name``."""
    return (resources.files(__name__) / f"{name}.md").read_text("utf-8").strip()


def prompt_of(agent: Agent) -> str:
    """An agent's instructions: the user's own file, or those that ship; agents without either are told how to answer.

    Raises:
        ConfigError: the user's file cannot be read.
    """
    if agent.prompt_file is not None:
        try:
            return Path(agent.prompt_file).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError((f"agents.{agent.name}.prompt: {agent.prompt_file} cannot be read: {error}",)) from error
    name = agent.name if (resources.files(__name__) / f"{agent.name}.md").is_file() else None
    return shipped_prompt(name or ("code" if agent.writes_files else "analysis"))
