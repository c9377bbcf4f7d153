"""The sections of `gateway.yaml`, one file each: its shape (what pydantic reads), its value (what the rest of the house
uses, units in the names), the way from one to the other (`build`), and what must agree in it and with other sections
(`checks`). `bodies` and `streams` stand inside a route."""
