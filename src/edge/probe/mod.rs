//! One check each: exec, httpGet, tcpSocket, and the passive kinds.
