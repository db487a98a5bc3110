//! A node from inside another program: `cargo run --example embed -- DIR`.
//!
//! Needs the `plugd` program: on the PATH, or named by PLUGD_BIN.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    run(&std::env::args().nth(1).unwrap_or_else(|| "services.d".into()))
}

pub fn run(dir: &str) -> Result<(), Box<dyn Error>> {
    let node = plugd::Plugd::open(dir)?;
    node.register("embedded", "script: |\n  echo hello from an embedded node; exec sleep 3600\n")?;
    for _ in 0..1000 {
        // 404 until the manifest has been read.
        if let Ok(view) = node.status("embedded")
            && view.process_running
        {
            println!("embedded is {}", view.status);
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    println!("{} % healthy", node.health()?.summary.percentage_healthy);
    node.shutdown()?;
    Ok(())
}
