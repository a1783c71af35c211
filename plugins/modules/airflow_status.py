#!/usr/bin/python
# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

# The work is done on the controller, by the action plugin of the same name.
from __future__ import annotations

DOCUMENTATION = r"""
module: airflow_status
short_description: Say whether a cluster is well, and if not, what to do
version_added: "0.1.0"
description:
  - Holds what M(airfield.metal.airflow_info) has found on all hosts against the inventory, prints a table of the hosts and a
    line for each finding with its remedy, and fails where there is one.
  - Runs on the controller, once for all hosts of the play.
options:
  facts:
    description: Name of the variable in which each host of the play has its result of M(airfield.metal.airflow_info).
    type: str
    required: true
  placement:
    description: Hosts of each component of Airflow.
    type: dict
    required: true
  services:
    description: Hosts of each backing service that is ours.
    type: dict
    required: true
  housekeeping:
    description: What the first scheduler's host does beside its components, such as V(backup).
    type: list
    elements: str
    default: []
  version:
    description: Version of Airflow that the inventory wants.
    type: str
    required: true
  end_of_life:
    description: Month since which O(version) is mended no more; empty while it is.
    type: str
    default: ""
  disk_percent:
    description: How full a file system may be, in percent.
    type: float
    default: 85
  clock_skew:
    description: Seconds by which clocks may differ.
    type: float
    default: 2
  lock_timeout:
    description: Seconds after its last renewal at which a run's lock counts no more.
    type: float
    default: 300
  format:
    description:
      - V(table) for people, V(json) for programs, as one line that begins with C({).
    type: str
    choices: [table, json]
    default: table
attributes:
  check_mode:
    support: full
    description: Changes nothing in any mode.
  diff_mode:
    support: none
    description: Has nothing to show.
author:
  - The Airfield developers (@airfield)
"""

EXAMPLES = r"""
- name: Look at the host
  airfield.metal.airflow_info:
    health: true
  register: host
  ignore_unreachable: true

- name: Say whether the cluster is well
  airfield.metal.airflow_status:
    facts: host
    placement: {scheduler: [control1], api-server: [control1], worker: [worker1, worker2]}
    services: {redis: [store1], postgresql: [store1]}
    version: 3.3.2
    format: json
  run_once: true
"""

RETURN = r"""
msg:
  description: The last line of the table.
  returned: always
  type: str
  sample: 3 findings on 2 hosts
status:
  description: The document that O(format=json) prints. Fields are added without notice; one that goes or changes raises
    C(version).
  returned: where the cluster is well; it is printed in any case
  type: dict
  contains:
    version:
      description: Version of this document.
      type: int
      sample: 1
    time:
      description: When it was made, in seconds since 1970.
      type: int
    well:
      description: Whether there is no finding.
      type: bool
    summary:
      description: The last line of the table.
      type: str
      sample: 5 hosts, 9 services, all well
    run:
      description: Who changes the cluster now, with C(who), C(playbook) and C(since); null where nobody does.
      type: dict
    findings:
      description: What is wrong, each with C(host) (empty for the whole cluster), C(component), C(kind), C(severity)
        (V(critical) or V(warning)), C(what) and C(remedy). docs/operators.md lists the kinds.
      type: list
      elements: dict
    notes:
      description: What is no finding, likewise, with the severity V(note).
      type: list
      elements: dict
    hosts:
      description: Each host that was looked at, with C(host), C(answers), C(components), C(uptime_seconds), C(release),
        C(dags), C(resources), C(queues), C(clock_offset_seconds), C(disks) and the number of C(findings).
      type: list
      elements: dict
    database:
      description: Of the metadata database C(bytes), and C(connections) with C(used) and C(most).
      type: dict
    broker:
      description: Of Redis what its command INFO says, as far as it counts here.
      type: dict
    queued:
      description: For each queue with waiting tasks C(queue), C(tasks), and C(age), the seconds of the oldest one.
      type: list
      elements: dict
    backup:
      description: What is known of the last backup, as in M(airfield.metal.airflow_info).
      type: dict
"""
