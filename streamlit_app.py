"""The dashboard's front door: navigation only. Each page can also stand alone."""

from pages._ui.frame import navigation

navigation().run()
