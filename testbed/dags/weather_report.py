"""A small pipeline: measures at several places at the same time on all workers, then tells the warmest one."""

from __future__ import annotations

from airflow.sdk import dag, task

PLACES = ["Seoul", "Busan", "Daegu", "Incheon"]


@dag(schedule=None, tags=["demo"], doc_md=__doc__)
def weather_report() -> None:
    @task
    def measure(place: str) -> dict[str, object]:
        import random

        return {"place": place, "celsius": random.randint(-5, 35)}  # noqa: S311 - no real thermometer

    @task
    def report(measurements: list[dict[str, object]]) -> str:
        warmest = max(measurements, key=lambda measurement: measurement["celsius"])
        print("The warmest place is {place} with {celsius} degrees.".format(**warmest))
        return str(warmest["place"])

    report(measure.expand(place=PLACES))


weather_report()
