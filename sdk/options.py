"""SAGE's options are Beam options: one configuration system, typed, each with its unit."""

from __future__ import annotations

import argparse

from apache_beam.options.pipeline_options import PipelineOptions

from sage.flags import CHECKED, add_flags, checked, parse_bytes, parse_duration_ms, parse_restart

__all__ = ["SageOptions", "parse_bytes", "parse_duration_ms", "parse_restart"]


class SageOptions(PipelineOptions):
    """What SAGE's runners understand beside Beam's own options: the flags of `sage.flags`."""

    def checked(self) -> SageOptions:
        """These options with values that fit: those given by keyword are text or numbers that nobody has looked at.

        Raises:
            ConfigError: a value is wrong; the message names the option and what is accepted.
        """
        for name in CHECKED:
            value = getattr(self, name)
            if value is not None:
                setattr(self, name, checked(name, value))
        return self

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        add_flags(parser)
