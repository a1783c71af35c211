from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar


@pytest.fixture
def make_action() -> Callable[..., Any]:
    """An action plugin with a task, as Ansible makes it."""

    def make(
        plugin: ModuleType,
        args: Mapping[str, Any],
        check: bool = False,
        loader: DataLoader | None = None,
        variables: Mapping[str, Any] | None = None,
    ) -> Any:
        loader = loader or DataLoader()
        task = SimpleNamespace(action=plugin.__name__, args=dict(args), async_val=0, check_mode=check)
        connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir="/nonexistent"))
        return plugin.ActionModule(task, connection, None, loader, Templar(loader, variables=variables or {}))

    return make
