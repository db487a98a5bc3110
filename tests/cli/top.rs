//! `plugd top` without a terminal: keys in, pictures out.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use plugd::cli::fault::Code;
use plugd::cli::top::draw::draw;
use plugd::cli::top::state::{Pane, Sort, Top, Usage};
use plugd::cli::top::update::{News, Wish, settle, update};
use plugd::controller::Order;
use plugd::model::name::Name;
use plugd::model::reason::{Reason, Status};
use plugd::model::text::Charset;
use plugd::model::view::{ServiceView, Snapshot};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::style::{Color, Modifier};

use super::samples::{self, at, snapshot};
use super::{down, now, some, view};

fn top(columns: u16, lines: u16) -> Top {
    Top::new("/srv/services.d".into(), Charset::Unicode, true, (columns, lines), now())
}

/// A top that knows the sample services and what two of them use.
fn filled(columns: u16, lines: u16) -> Top {
    let mut top = top(columns, lines);
    update(&mut top, News::All(some()), now());
    let name = |text: &str| Name::parse(text).expect("a name");
    let usage = |percent: f32, resident: u64| Usage { percent: Some(percent), resident };
    let used =
        [(name("postgres"), usage(12.34, 34 << 20)), (name("mailer"), Usage { percent: None, resident: 812 << 10 })];
    update(&mut top, News::Used(HashMap::from(used)), now());
    settle(&mut top);
    top
}

fn buffer(top: &Top) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(top.size.0, top.size.1)).expect("a backend");
    terminal.draw(|frame| draw(top, frame)).expect("drawn");
    terminal.backend().buffer().clone()
}

/// What stands on the screen, without blanks at the ends of lines.
fn picture(top: &Top) -> String {
    let buffer = buffer(top);
    let line = |y: u16| {
        let cells: String = (0..buffer.area.width).map(|x| buffer[(x, y)].symbol()).collect();
        cells.trim_end().to_string()
    };
    (0..buffer.area.height).map(line).collect::<Vec<_>>().join("\n")
}

fn press(top: &mut Top, code: KeyCode) -> Option<Wish> {
    update(top, News::Key(KeyEvent::new(code, KeyModifiers::NONE)), now())
}

fn type_(top: &mut Top, text: &str) -> Option<Wish> {
    text.chars().fold(None, |_, c| press(top, KeyCode::Char(c)))
}

fn chosen(top: &Top) -> &str {
    top.chosen.as_deref().unwrap_or("nothing")
}

fn names(top: &Top) -> Vec<String> {
    top.entries().into_iter().map(|entry| entry.row.name).collect()
}

fn many(count: usize) -> Snapshot {
    snapshot((0..count).map(|n| view(&format!("service-{n:04}"))))
}

// ── pictures ──

#[test]
fn the_list_at_80_columns() {
    insta::assert_snapshot!("top_80_columns", picture(&filled(80, 24)));
}

#[test]
fn the_list_at_200_columns_has_the_causes_in_their_rows() {
    insta::assert_snapshot!("top_200_columns", picture(&filled(200, 16)));
}

#[test]
fn a_narrow_terminal_keeps_names_and_words() {
    insta::assert_snapshot!("top_40_columns", picture(&filled(40, 14)));
}

#[test]
fn an_empty_node_says_what_to_do() {
    let mut top = top(80, 12);
    assert_eq!(picture(&top).lines().next(), Some("/srv/services.d  asking the controller"));
    update(&mut top, News::All(snapshot([])), now());
    insta::assert_snapshot!("top_empty", picture(&top));
}

#[test]
fn without_unicode_and_colour_nothing_is_lost() {
    let top = Top { charset: Charset::Ascii, color: false, ..filled(80, 14) };
    assert!(picture(&top).is_ascii(), "{}", picture(&top));
    let colours = buffer(&top).content.iter().filter(|cell| cell.fg != Color::Reset).count();
    assert_eq!(colours, 0);
}

#[test]
fn the_chosen_row_and_the_status_stand_out() {
    let top = filled(80, 24);
    let buffer = buffer(&top);
    assert!(
        buffer[(0, 2)].modifier.contains(Modifier::REVERSED) && buffer[(79, 2)].modifier.contains(Modifier::REVERSED)
    );
    assert!(!buffer[(0, 3)].modifier.contains(Modifier::REVERSED));
    assert!(buffer.content.iter().any(|cell| cell.fg == Color::Red && cell.symbol() == "✘"));
}

#[test]
fn every_size_can_be_drawn() {
    for columns in [0, 1, 2, 7, 20, 39, 79, 120, 500] {
        for lines in [0, 1, 2, 3, 4, 5, 11, 12, 60] {
            let mut top = filled(80, 24);
            for key in ['/', 'm'] {
                press(&mut top, KeyCode::Char(key));
                update(&mut top, News::Resized(columns, lines), now());
                picture(&top);
            }
            press(&mut top, KeyCode::Enter);
            for key in ['?', '?', 'w', 'w', 'l'] {
                press(&mut top, KeyCode::Char(key));
                picture(&top);
            }
        }
    }
}

#[test]
fn hostile_words_do_not_reach_the_terminal() {
    let mut evil = down("evil", Status::Unhealthy, Reason::BackOff, "\x1b[2J\x07 \u{202e}gone");
    evil.next = Some("\x1b]0;title\x07".into());
    let mut top = top(80, 24);
    update(&mut top, News::All(snapshot([evil])), now());
    settle(&mut top);
    let seen = picture(&top);
    assert!(!seen.chars().any(|c| c.is_control() && c != '\n') && !seen.contains('\u{202e}'), "{seen}");
}

// ── the list ──

#[test]
fn trouble_comes_first_and_o_changes_the_order() {
    let mut top = filled(80, 24);
    assert_eq!(names(&top), ["orders-copy.yaml", "mailer", "orders", "files-mcp", "postgres"]);
    let mut first = |sort: Sort| {
        type_(&mut top, "o");
        assert_eq!(top.sort, sort);
        names(&top)[0].clone()
    };
    assert_eq!(first(Sort::Name), "files-mcp");
    assert_eq!(first(Sort::Restarts), "mailer");
    first(Sort::Age);
    assert_eq!(first(Sort::Cpu), "postgres");
    assert_eq!(first(Sort::Memory), "postgres");
    type_(&mut top, "O");
    assert_eq!(names(&top).last().map(String::as_str), Some("postgres"));
}

#[test]
fn the_chosen_row_stays_chosen_while_others_move() {
    let mut top = filled(80, 24);
    press(&mut top, KeyCode::Down);
    assert_eq!(chosen(&top), "mailer");
    let sick = down("postgres", Status::Failed, Reason::Error, "is broken");
    update(&mut top, News::Changed(Arc::new(sick)), now());
    settle(&mut top);
    assert_eq!((chosen(&top), top.at), ("mailer", 2));
    update(&mut top, News::Removed(Name::parse("mailer").expect("a name")), now());
    settle(&mut top);
    assert_eq!(chosen(&top), "orders", "what takes its place");
}

#[test]
fn a_thousand_services_are_scrolled_and_drawn_at_once() {
    let mut top = top(80, 24);
    update(&mut top, News::All(many(1000)), now());
    settle(&mut top);
    press(&mut top, KeyCode::End);
    assert_eq!(chosen(&top), "service-0999");
    assert!(picture(&top).contains("service-0999") && !picture(&top).contains("service-0900"));
    press(&mut top, KeyCode::PageUp);
    press(&mut top, KeyCode::Home);
    assert_eq!((chosen(&top), top.first), ("service-0000", 0));
    type_(&mut top, "/0777");
    assert_eq!(names(&top), ["service-0777"]);
    let began = Instant::now();
    let mut terminal = Terminal::new(TestBackend::new(200, 60)).expect("a backend");
    top.filter.clear();
    for n in 0..20 {
        let view = ServiceView { restarts: n, ..view("service-0500") };
        update(&mut top, News::Changed(Arc::new(view)), now());
        settle(&mut top);
        terminal.draw(|frame| draw(&top, frame)).expect("drawn");
    }
    // A second of pictures; a debug build on a loaded machine has ten times as long as it needs.
    assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
}

#[test]
fn the_filter_is_typed_taken_and_taken_away() {
    let mut top = filled(80, 24);
    type_(&mut top, "/crashq");
    assert_eq!(top.filter, "crashq", "letters are letters while a filter is typed");
    press(&mut top, KeyCode::Backspace);
    assert_eq!(names(&top), ["mailer"]);
    press(&mut top, KeyCode::Enter);
    assert_eq!((&top.pane, chosen(&top)), (&Pane::List, "mailer"));
    assert!(picture(&top).contains("filter \"crash\""));
    type_(&mut top, "/zzz");
    assert!(picture(&top).contains("no service matches"));
    press(&mut top, KeyCode::Esc);
    assert_eq!(top.filter, "crash", "as it was before");
    press(&mut top, KeyCode::Esc);
    assert_eq!(names(&top).len(), 5);
}

// ── orders ──

#[test]
fn an_order_is_given_after_a_question_only() {
    let mut top = filled(80, 24);
    let mailer = Name::parse("mailer").expect("a name");
    press(&mut top, KeyCode::Down);
    for (key, order, question) in [
        ('r', Order::Restart, "restart mailer? y / n  orders needs it."),
        ('s', Order::Stop, "stop mailer? y / n  orders needs it."),
        ('S', Order::Start, "start mailer? y / n"),
    ] {
        assert_eq!(type_(&mut top, &key.to_string()), None);
        assert_eq!(picture(&top).lines().last(), Some(question));
        assert_eq!(press(&mut top, KeyCode::Enter), None, "anything but y is no");
        assert!(picture(&top).ends_with("mailer is left as it is"), "{}", picture(&top));
        type_(&mut top, &key.to_string());
        assert_eq!(type_(&mut top, "y"), Some(Wish::Order(mailer.clone(), order)));
    }
    update(&mut top, News::Done("mailer: start is taken up".into()), now());
    assert!(picture(&top).ends_with("mailer: start is taken up"));
}

#[test]
fn a_file_that_makes_no_service_takes_no_order() {
    let mut top = filled(80, 24);
    for key in ["r", "s", "S", "l", "w"] {
        assert_eq!(type_(&mut top, key), None);
        assert_eq!(top.said.as_deref(), Some("orders-copy.yaml makes no service"));
        assert_eq!(top.pane, Pane::List);
    }
}

// ── panes ──

#[test]
fn w_shows_the_cause_and_the_next_step() {
    let mut top = filled(80, 24);
    press(&mut top, KeyCode::Down);
    type_(&mut top, "w");
    insta::assert_snapshot!("top_why", picture(&top));
    press(&mut top, KeyCode::PageDown);
    press(&mut top, KeyCode::Esc);
    assert_eq!(top.pane, Pane::List);
}

#[test]
fn l_follows_the_log_and_scrolling_up_holds_it() {
    let mut top = filled(60, 8);
    press(&mut top, KeyCode::Down);
    let mailer = Name::parse("mailer").expect("a name");
    assert_eq!(type_(&mut top, "l"), Some(Wish::Read(mailer.clone())));
    assert!(picture(&top).starts_with("postgres") || picture(&top).contains("nothing has been written yet"));
    let lines = |from: usize, to: usize| (from..to).map(|n| format!("line {n}")).collect::<Vec<_>>();
    update(&mut top, News::Lines { name: mailer.clone(), lines: lines(0, 20) }, now());
    update(&mut top, News::Lines { name: Name::parse("other").expect("a name"), lines: lines(70, 80) }, now());
    assert!(picture(&top).contains("line 19") && !picture(&top).contains("line 13\n"), "{}", picture(&top));
    press(&mut top, KeyCode::PageUp);
    let held = picture(&top);
    assert!(held.contains("line 13") && held.contains("6 lines below"), "{held}");
    update(&mut top, News::Lines { name: mailer.clone(), lines: lines(20, 22) }, now());
    assert!(picture(&top).contains("line 13") && picture(&top).contains("8 lines below"));
    press(&mut top, KeyCode::End);
    assert!(picture(&top).contains("line 21"));
    update(&mut top, News::Lines { name: mailer.clone(), lines: lines(0, 5_000) }, now());
    assert!(matches!(&top.pane, Pane::Logs(pane) if pane.lines.len() == 2_000), "only so many are kept");
    update(&mut top, News::LogEnded { name: mailer, why: "the log cannot be read".into() }, now());
    assert!(picture(&top).contains("the log cannot be read"));
    assert_eq!(press(&mut top, KeyCode::Esc), Some(Wish::StopReading));
}

#[test]
fn the_help_lists_the_keys_and_goes_with_any() {
    let mut top = filled(80, 24);
    type_(&mut top, "?");
    insta::assert_snapshot!("top_help", picture(&top));
    assert_eq!(type_(&mut top, "q"), None, "back, not out");
    assert_eq!(type_(&mut top, "q"), Some(Wish::Leave(Code::Done)));
}

#[test]
fn control_c_leaves_from_everywhere() {
    for keys in ["", "/x", "?", "s"] {
        let mut top = filled(80, 24);
        press(&mut top, KeyCode::Down);
        type_(&mut top, keys);
        let key = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(update(&mut top, News::Key(key), now()), Some(Wish::Leave(Code::Other(130))), "{keys:?}");
    }
}

// ── the link ──

#[test]
fn what_is_stale_says_so_until_a_controller_answers() {
    let mut top = filled(80, 24);
    let later = |text: &str| -> Timestamp { at(text) };
    let lost = |heard: &str| News::Lost { heard: at(heard), why: "no controller answers for services.d".into() };
    update(&mut top, lost("2026-11-23T12:33:00Z"), later("2026-11-23T12:33:02Z"));
    update(&mut top, lost("2026-11-23T12:33:01Z"), later("2026-11-23T12:33:07Z"));
    let seen = picture(&top);
    assert!(seen.starts_with(" STALE for 7s: no controller answers"), "since its last word: {seen}");
    assert!(seen.contains("postgres"), "what was known stands there all the same");
    update(&mut top, News::All(some()), later("2026-11-23T12:33:09Z"));
    assert!(picture(&top).starts_with("/srv/services.d"), "{}", picture(&top));
    assert!(picture(&top).ends_with("a controller answers again"));
}

#[test]
fn a_lost_directory_stands_in_the_first_line() {
    let mut top = filled(120, 24);
    let mut node = samples::snapshot([]).node;
    node.directory_lost = Some("it is not there".into());
    update(&mut top, News::Node(node), now());
    assert!(picture(&top).contains("DirectoryLost: it is not there"), "{}", picture(&top));
}
