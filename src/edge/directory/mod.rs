//! Watching and reading `services.d`: events in, declarations out.
