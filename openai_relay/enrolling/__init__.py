"""The device's side of enrolment: make a key, have it certified, and have it renewed in time."""
