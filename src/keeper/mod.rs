//! The keeper: the tiny parent of everything, its wire protocol, and the client half. Floor 3.
