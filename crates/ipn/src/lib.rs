//! The types promised to users, scripts and disk: prefs, state, status, notify, profiles, health codes and texts.
