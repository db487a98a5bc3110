//! The local socket: HTTP/1.1, JSON and SSE. Floor 6.
