pub fn start_time_in(_stat: &[u8]) -> u64 {
    0
}
