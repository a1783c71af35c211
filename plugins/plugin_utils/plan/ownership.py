"""What on a host is not Airfield's, or not of this cluster, and must not be stopped, replaced or changed without a word."""

# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

SERVICES = ("mysql", "postgresql", "redis", "seaweedfs")
UNIT_FOLDERS = ("/etc/systemd/system", "/usr/lib/systemd/system")
WHAT = {"mysql": "MySQL", "postgresql": "PostgreSQL", "redis": "Redis", "seaweedfs": "SeaweedFS"}


def own_paths(components: Iterable[str], housekeeping: Iterable[str]) -> list[str]:
    """Files that Airfield writes on a host and that somebody else may have there."""
    components = list(components)
    if not components:
        return []
    names = [f"airflow-{component}" for component in components] + list(housekeeping)
    files = ["/etc/airflow/airflow.cfg"]
    if {"api-server", "webserver"} & set(components):
        files.append("/etc/airflow/webserver_config.py")
    if {"api-server", "webserver", "scheduler"} & set(components):
        files.append("/usr/local/bin/airflow")
    return [f"{folder}/{name}.service" for folder in UNIT_FOLDERS for name in sorted(names)] + files


def take_over(entry: str) -> str:
    """The end of a remedy: how to allow it."""
    return f'or let this run take it over: -e \'{{"airflow_take_over": ["{entry}"]}}\''


def foreign_files(paths: Iterable[str], taken_over: Collection[str]) -> list[str]:
    """Files of others at places where Airfield has its own."""
    return [
        f"{path} is there and is not Airfield's, and would be replaced. Remedy: move it away, {take_over(path)} (a copy stays "
        f"beside it)."
        for path in paths
        if path not in taken_over
    ]


def foreign_cluster(present: str, wanted: str, taken_over: Collection[str]) -> list[str]:
    """A host that belongs to another cluster of Airfield's."""
    if not present or present == wanted or "cluster" in taken_over:
        return []
    return [
        f"belongs to the Airfield cluster {present}, this inventory is {wanted or 'of none yet'} (airflow_cluster). Remedy: "
        f"take the host out of this inventory; set airflow_cluster to {present} if it is the same cluster; "
        f"{take_over('cluster')}."
    ]


def foreign_database(present: str, wanted: str, taken_over: Collection[str]) -> list[str]:
    """A metadata database that belongs to another cluster of Airfield's."""
    if not present or present == wanted or "cluster" in taken_over:
        return []
    return [
        f"the metadata database belongs to the Airfield cluster {present}, this inventory is {wanted or 'of none yet'} "
        f"(airflow_cluster). Remedy: correct airflow_database; set airflow_cluster to {present} if it is the same cluster; "
        f"{take_over('cluster')}."
    ]


def foreign_clients(
    store: Mapping[str, Any], addresses: Mapping[str, str], identified: bool, taken_over: Collection[str]
) -> list[str]:
    """A database server that an earlier version has set up, all of whose clients are other hosts than those of the inventory.

    :arg addresses: host of the inventory -> its address.
    :arg identified: whether the host says whose it is; then that counts.
    """
    clients = store["clients"]
    if identified or not clients or "cluster" in taken_over:
        return []
    known = {*addresses.values(), *(f"{address}/32" for address in addresses.values())}
    if any(address in known for address in clients.values()) or not known:
        return []
    names = ", ".join(f"{host} ({address.removesuffix('/32')})" for host, address in sorted(clients.items()))
    return [
        f"its PostgreSQL serves another cluster, of {names}. Remedy: take the host out of this inventory, "
        f"{take_over('cluster')}."
    ]


def foreign_stores(
    stores: Mapping[str, Mapping[str, Any]], unused: Collection[str], same_cluster: bool, taken_over: Collection[str]
) -> list[str]:
    """Servers that serve somebody else, or that this cluster has no use for."""
    problems = []
    for service, store in sorted(stores.items()):
        if service in taken_over or store["ours"] or same_cluster:
            continue
        if service in unused:
            problems.append(
                f"is in group {service}, but nothing of this cluster uses {WHAT[service]} there, and the role would set the "
                f"server up anew. Remedy: take the host out of group {service}, or give the group another name, "
                f"{take_over(service)}."
            )
        if store["foreign"]:
            problems.append(
                f"its {WHAT[service]} serves somebody else: {'; '.join(store['foreign'])}. The role would replace its "
                f"configuration. Remedy: put another host into group {service}, or use this server as a service of yours "
                f"(docs/operators.md), {take_over(service)} (a copy of each file stays beside it)."
            )
    return problems


def host_of(url: Any) -> str:
    """The host in a URL; empty where nobody can tell."""
    try:
        return urlsplit(str(url or "")).hostname or ""
    except ValueError:
        return ""


def unused_services(values: Mapping[str, Any], groups: Mapping[str, Collection[str]], names: Collection[str]) -> list[str]:
    """Services whose group has this host, and which the cluster uses elsewhere or not at all.

    :arg values: the inventory's variables.
    :arg names: names and addresses of this host.
    """

    def body(name: str) -> Mapping[str, Any]:
        value = values.get(name)
        return value if isinstance(value, Mapping) else {}

    def elsewhere(url: Any, host: Any) -> bool:
        given = host_of(url) if url else str(host or "")
        return bool(given) and given not in names

    database_url, results_url = (str(values.get(f"airflow_{name}_url") or "") for name in ("database", "result_backend"))
    both = bool(groups.get("mysql")) and not groups.get("postgresql")
    kind = body("airflow_database").get("backend") or ("mysql" if both else "postgresql")
    if database_url:
        kind = "mysql" if database_url.startswith(("mysql", "mariadb")) else "postgresql"
    results = kind
    if results_url:
        results = "mysql" if results_url.startswith(("db+mysql", "db+mariadb")) else "postgresql"
    away = elsewhere(database_url, body("airflow_database").get("host"))
    results_away = (
        elsewhere(results_url, body("airflow_result_backend").get("host"))
        if (results_url or body("airflow_result_backend").get("host"))
        else away
    )
    unused = [
        service for service in ("mysql", "postgresql") if (kind != service or away) and (results != service or results_away)
    ]
    if elsewhere(values.get("airflow_broker_url"), body("airflow_broker").get("host")) and not groups.get("airflow_slack"):
        unused.append("redis")
    stores = [host_of(body(name).get("endpoint_url")) for name in ("airflow_logs", "airflow_backup_s3")]
    if stores[0] and not any(store in names for store in stores):
        unused.append("seaweedfs")
    return [service for service in unused if groups.get(service)]
