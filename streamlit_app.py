"""Entry point of the dashboard: navigation only. Each page also works alone."""

from pages._ui.frame import navigation

navigation().run()
