"""What a person sees: the login form and a DAG's page, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import topology
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

URL = f"http://{topology.address(topology.members('airflow_webserver')[0])}:8080"


@pytest.fixture
def browser() -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for argument in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--window-size=1400,900",
    ):
        options.add_argument(argument)
    driver = webdriver.Chrome(options, webdriver.ChromeService("/usr/bin/chromedriver"))
    yield driver
    driver.quit()


@pytest.mark.usefixtures("dags")
def test_dag_page_opens_after_login(browser: webdriver.Chrome, api: topology.Api) -> None:
    run = api.trigger("example_xcom")
    api.finish("example_xcom", run)
    browser.get(f"{URL}/dags/example_xcom")
    wait = WebDriverWait(browser, 60)
    wait.until(lambda driver: driver.find_element(By.NAME, "username"))
    login_page = topology.this_series().login_page
    assert login_page in browser.current_url
    browser.find_element(By.NAME, "username").send_keys(topology.variable("airflow_admin_username", "admin"))
    browser.find_element(By.NAME, "password").send_keys(topology.variables()["airflow_admin_password"])
    browser.find_element(By.CSS_SELECTOR, "input[type=submit], button[type=submit]").click()
    wait.until(lambda driver: login_page not in driver.current_url)
    browser.get(f"{URL}/dags/example_xcom")
    wait.until(lambda driver: "example_xcom" in driver.find_element(By.TAG_NAME, "body").text)
    wait.until(lambda driver: "bash_push" in driver.find_element(By.TAG_NAME, "body").text)
    topology.OUTPUT.mkdir(parents=True, exist_ok=True)
    assert browser.save_screenshot(str(topology.OUTPUT / "dag-page.png"))
