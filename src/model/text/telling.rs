//! Of the last words of a program, the line that tells most. Mostly the last one; some say goodbye after it.

/// The last line with anything in it; where that is how npm or node ends, the one before that names the error.
pub fn telling<L: AsRef<str>>(lines: &[L]) -> Option<&str> {
    let mut said = lines.iter().map(|line| line.as_ref().trim_end()).filter(|line| !line.trim().is_empty());
    let last = said.next_back()?;
    let better = match () {
        () if of_npm(last).is_some_and(|text| text.starts_with("A complete log of this run")) => npm_error(lines),
        () if last.starts_with("Node.js v") => said.clone().rfind(|line| names_error(line)),
        () => return Some(last.trim()),
    };
    better.or(said.next_back()).or(Some(last)).map(str::trim)
}

/// What npm says on a line; before its version 10 with another prefix.
fn of_npm(line: &str) -> Option<&str> {
    line.strip_prefix("npm error ").or_else(|| line.strip_prefix("npm ERR! "))
}

/// `npm error 404 Not Found - GET https://…` after `npm error code E404`; a code that nothing explains, itself.
fn npm_error<L: AsRef<str>>(lines: &[L]) -> Option<&str> {
    let said = || lines.iter().map(|line| line.as_ref().trim_end());
    let (line, code) = said().find_map(|line| Some((line, of_npm(line)?.strip_prefix("code ")?.trim())))?;
    let short = code.strip_prefix('E').filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit())).unwrap_or(code);
    let explains = |text: &str| {
        let (first, rest) = text.split_once(' ').unwrap_or((text, ""));
        first.eq_ignore_ascii_case(short) && !rest.trim().is_empty()
    };
    said().find(|line| of_npm(line).is_some_and(explains)).or(Some(line))
}

/// `TypeError: …`, `Error [ERR_X]: …`: at the start of a line, for what is below is where it came from.
fn names_error(line: &str) -> bool {
    let Some((kind, _)) = line.trim_start_matches("Uncaught ").split_once(':') else { return false };
    let kind = kind.split(" [").next().unwrap_or(kind);
    let is_word = !kind.is_empty() && kind.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '$'));
    is_word && (kind.ends_with("Error") || kind.ends_with("Exception"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Option<String> {
        let lines: Vec<&str> = text.lines().collect();
        telling(&lines).map(String::from)
    }

    #[test]
    fn mostly_the_last_line_tells_most() {
        assert_eq!(told("first\n  the end \n \n").as_deref(), Some("the end"));
        assert_eq!(told("Error: one\nbye").as_deref(), Some("bye"));
        assert_eq!(told(" \n"), None);
    }

    #[test]
    fn npm_is_quoted_with_its_error_and_not_with_where_its_log_is() {
        let log = "npm error A complete log of this run can be found in: /root/.npm/_logs/x-debug-0.log";
        let missing = "npm error code E404\n\
                       npm error 404 Not Found - GET https://packages.example.org/nope - Not found\n\
                       npm error 404\n\
                       npm error 404  'nope@*' is not in this registry.\n\
                       npm error 404 tarball, folder, http url, or git folder.\n";
        let said = Some("npm error 404 Not Found - GET https://packages.example.org/nope - Not found");
        assert_eq!(told(&format!("{missing}{log}")).as_deref(), said);
        let said = said.map(|said| said.replace("error", "ERR!"));
        assert_eq!(told(&format!("{missing}{log}").replace("npm error", "npm ERR!")), said);

        let absent = "npm error code ENOENT\nnpm error syscall open\nnpm error path /x/package.json\n\
                      npm error enoent Could not read package.json\nnpm error enoent\n";
        let said = Some("npm error enoent Could not read package.json");
        assert_eq!(told(&format!("{absent}{log}")).as_deref(), said);
        assert_eq!(told(&format!("npm error code EJSONPARSE\n{log}")).as_deref(), Some("npm error code EJSONPARSE"));
        assert_eq!(told(&format!("npm error it broke\n{log}")).as_deref(), Some("npm error it broke"));
        assert_eq!(told(log).as_deref(), Some(log));
    }

    #[test]
    fn node_is_quoted_with_its_error_and_not_with_its_version() {
        let text = "node:internal/modules/cjs/loader:1080\n  throw err;\n  ^\n\n\
                    Error: Cannot find module '/x/y.js'\n    at Module._load (node:internal/x:1:2)\n    \
                    at node:internal/main/run_main_module:28:49 {\n  code: 'MODULE_NOT_FOUND'\n}\n\nNode.js v20.11.0\n";
        assert_eq!(told(text).as_deref(), Some("Error: Cannot find module '/x/y.js'"));
        let other = text.replace("Error: C", "TypeError [ERR_X]: C");
        assert_eq!(told(&other).as_deref(), Some("TypeError [ERR_X]: Cannot find module '/x/y.js'"));
        assert_eq!(told("thrown\nNode.js v20.11.0").as_deref(), Some("thrown"));
    }
}
