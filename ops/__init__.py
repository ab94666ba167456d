"""Running it: settings, wiring, command line, web, embedded servers, metrics, demo."""
