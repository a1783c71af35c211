"""Filters for URLs and options."""

# Copyright: (c) 2026, The Airfield developers
# MIT License (see LICENSE)

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from ansible_collections.airfield.metal.plugins.module_utils import catalogue, environment_file
from ansible_collections.airfield.metal.plugins.plugin_utils.precheck import report


def url_quote(text: Any) -> str:
    """Quote every character that has a meaning in a URL, "/" among them, and "~", which Airflow would expand."""
    return quote(str(text), safe="").replace("~", "%7E")


def plain_options(options: dict[str, dict[str, Any]], declared: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Those of the options that may stand in airflow.cfg."""
    return catalogue.split_sensitive(options, declared)[0]


def secret_options(options: dict[str, dict[str, Any]], declared: dict[str, Any]) -> dict[str, str]:
    """Those of the options that Airflow treats as secrets, as environment variables."""
    return catalogue.split_sensitive(options, declared)[1]


def render_environment_file(variables: dict[str, Any]) -> str:
    """The text of a file for systemd's EnvironmentFile=."""
    return environment_file.render(variables)


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Any]:
        return {
            "environment_file": render_environment_file,
            "problem_report": report,
            "plain_options": plain_options,
            "secret_options": secret_options,
            "url_quote": url_quote,
        }
