"""llmtap's configuration: one typed, frozen tree from file, environment and flags."""

from llmtap.config.load import ConfigError, find_config, load
from llmtap.config.model import Config, Price, Timeouts, Upstream

__all__ = ["Config", "ConfigError", "Price", "Timeouts", "Upstream", "find_config", "load"]
