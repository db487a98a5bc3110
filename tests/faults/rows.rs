//! The catalogue: which test shows which row. A row may have several tests, here or elsewhere; each that
//! is named here exists, and each test here that is named by a row stands in the table.

use std::collections::BTreeSet;
use std::fs;

/// Rows that one controller and its keeper can meet. 64 to 74 and 79 belong to mesh, the Model Context Protocol and
/// the API.
///
/// Where what is done is not word for word what the catalogue says:
///
/// - 14, ENFILE: the table of the whole machine cannot be filled beside other tests; the kernel's answer is injected.
/// - 16, any allocation site: what the kernel is asked for memory by (mmap and its like, clone, pipe) fails at a place of
///   each push, at a hundred times as many under `PLUGD_SOAK`. malloc itself is not made to fail: on Linux it does so
///   only when these calls do, and Rust then aborts, which is row 59.
/// - 21: the keeper gives a controller that is silent 60 s, so what alone stands still does so for half of that.
/// - 29, 31: 10,000 ends are 30 s of a processor and 100,000 orphans a minute: a push has 2,000 and 10,000, and
///   `PLUGD_SOAK` a hundred times as many. The share of a processor is of ten services at once, each push.
/// - 49, a case-blind file system: most kernels have none to be mounted from a file (ext4 needs CONFIG_UNICODE). No inode
///   has to be compared: such a file system lists each file once, by one spelling, and what a listing does not have is
///   gone. That names of files differ in case only is a conflict on every file system, so that a directory that is
///   copied to such a one means the same there.
/// - 59, caught at the edge: no. A task that panicked leaves what it was to tell untold, and a controller that goes on
///   without it looks alive and is not. It ends as a whole instead; the next one adopts within milliseconds, services
///   notice nothing, and the end is counted, and told as an event.
const ROWS: &[(u32, &str, &[&str])] = &[
    (
        1,
        "controller killed at any call",
        &[
            "row_01_a_controller_killed_at_any_call_of_its_life_loses_and_doubles_nothing",
            "row_01_controllers_killed_at_random_under_load_lose_and_double_nothing",
            "fifty_services_and_twenty_kills_of_the_controller_lose_nothing",
        ],
    ),
    (
        2,
        "keeper killed",
        &[
            "a_killed_keeper_leaves_nothing_behind_after_the_next_run",
            "without_cgroups_a_killed_keeper_s_escaped_children_are_ended_by_the_next_run",
            "whatever_is_killed_or_deleted_together_nothing_is_ever_there_twice",
        ],
    ),
    (
        3,
        "both killed, a service ends meanwhile",
        &["row_03_both_killed_and_a_service_that_ends_meanwhile_is_started_once"],
    ),
    (
        4,
        "reboot",
        &[
            "row_04_after_a_reboot_the_numbers_of_an_old_table_mean_nobody",
            "a_line_of_another_boot_or_namespace_or_a_torn_one_names_nobody",
        ],
    ),
    (5, "disk full, status", &["row_05_a_full_disk_keeps_the_old_status_whole_and_is_told_once"]),
    (
        6,
        "disk full, logs",
        &[
            "a_full_disk_blocks_no_service_drops_and_counts_and_recovers_alone",
            "with_block_a_full_disk_holds_the_service_and_loses_nothing",
        ],
    ),
    (7, "no inodes", &["row_07_a_disk_without_inodes_is_a_full_disk"]),
    (
        8,
        "EDQUOT, EIO",
        &[
            "row_08_errors_of_quota_and_of_the_disk_are_a_full_disk_at_every_call",
            "an_error_at_any_call_restarts_no_service_and_is_over_in_seconds",
        ],
    ),
    (
        9,
        "services.d read-only",
        &[
            "a_read_only_directory_has_its_status_files_elsewhere",
            "a_directory_that_cannot_be_written_sends_all_statuses_to_the_state_directory",
        ],
    ),
    (
        10,
        "state directory cannot be written",
        &[
            "row_10_a_state_directory_that_takes_nothing_more_costs_memory_and_nothing_else",
            "row_10_a_state_directory_that_never_could_be_written_is_told_and_services_run",
            "row_10_a_memory_that_never_could_be_made_was_not_taken_away",
            "row_10_what_was_remembered_holds_on_a_disk_that_takes_nothing_more",
            "without_a_place_to_write_it_runs_without_memory_and_says_so",
            "without_any_place_of_its_own_a_node_runs_without_memory_and_ends_in_order",
        ],
    ),
    (11, "status writer hangs", &["row_11_a_frozen_disk_under_the_status_files_holds_up_no_decision"]),
    (
        12,
        "queue of events overflows",
        &[
            "row_12_a_queue_of_events_that_overflows_is_made_good_by_one_look_at_all",
            "a_flood_of_files_ends_in_the_right_state",
        ],
    ),
    (13, "no inotify", &["row_13_without_inotify_changes_are_found_by_looking_and_that_is_said_once"]),
    (
        14,
        "no descriptors",
        &[
            "row_14_a_controller_without_descriptors_kills_nobody_and_recovers",
            "row_14_of_more_clients_than_seats_none_keeps_one_and_services_do_not_notice",
            "row_14_what_finds_no_descriptor_waits_for_room_and_the_rest_runs",
            "at_the_limit_of_descriptors_a_spawn_is_refused",
        ],
    ),
    (
        15,
        "fork refused",
        &[
            "row_15_a_fork_that_is_refused_is_a_reason_and_is_tried_again",
            "row_15_a_thread_or_a_pipe_that_is_refused_ends_nothing",
        ],
    ),
    (
        16,
        "no memory",
        &[
            "row_16_without_memory_the_keeper_stays_and_the_controller_may_come_again",
            "row_16_memory_that_is_refused_once_at_any_place_ends_no_service_and_no_keeper",
        ],
    ),
    (
        17,
        "controller out of memory",
        &[
            "row_17_a_controller_that_runs_out_of_memory_is_one_that_was_killed",
            "row_17_services_go_before_plugd_when_memory_runs_out",
        ],
    ),
    (
        18,
        "service out of memory",
        &[
            "row_18_a_service_that_runs_out_of_memory_is_told_and_others_do_not_notice",
            "row_18_an_end_for_want_of_memory_that_no_controller_saw_is_told_by_the_next",
            "row_18_where_memory_runs_out_the_whole_instance_ends_unless_one_process_is_asked_for",
        ],
    ),
    (
        19,
        "wall clock set",
        &[
            "the_laws_hold_in_every_world",
            "a_clock_that_is_set_is_noticed_within_half_a_minute_without_a_word",
            "a_clock_that_is_set_back_runs_nothing_twice_and_says_so",
            "a_clock_that_was_years_ahead_for_a_minute_silences_nothing",
        ],
    ),
    (
        20,
        "machine asleep",
        &[
            "the_laws_hold_in_every_world",
            "a_machine_that_slept_owes_nobody_a_check",
            "what_fails_within_a_period_after_the_machine_slept_proves_nothing",
            "a_machine_that_slept_makes_up_for_the_last_run_and_tells_the_others",
        ],
    ),
    (
        21,
        "loop late",
        &[
            "row_21_a_controller_or_a_whole_node_that_was_held_up_restarts_nothing",
            "row_21_a_keeper_alone_that_was_stopped_is_told_to_go_on",
            "a_silent_controller_is_hung_after_its_limit_but_not_while_the_keeper_was_paused",
            "failures_of_a_loop_that_was_late_prove_nothing",
        ],
    ),
    (
        22,
        "service stopped",
        &[
            "row_22_a_service_that_is_stopped_answers_no_check_and_is_ended_and_started_again",
            "a_service_that_is_stopped_by_sigstop_hears_of_its_end",
        ],
    ),
    (23, "service in D state", &["row_23_a_process_that_no_signal_reaches_is_named_and_holds_up_nobody_else"]),
    (
        24,
        "ignores TERM",
        &[
            "one_that_ignores_term_is_killed_at_its_grace_and_named_meanwhile",
            "kill_comes_at_the_end_of_the_grace_give_or_take_a_tenth_of_a_second",
        ],
    ),
    (
        25,
        "fork bomb",
        &[
            "row_25_a_fork_bomb_is_gone_with_its_service",
            "row_25_a_service_that_ends_because_it_may_not_fork_is_told_with_the_limit_that_it_met",
            "row_25_a_fork_bomb_stays_within_its_limit_and_others_do_not_notice",
            "fifty_random_trees_are_stopped_and_nothing_is_left",
        ],
    ),
    (
        26,
        "daemon",
        &[
            "row_26_one_that_forks_into_the_background_is_told_and_ended_whole",
            "children_that_ignore_term_or_left_the_session_are_gone_when_the_service_is",
        ],
    ),
    (
        27,
        "child keeps stdout",
        &[
            "a_grandchild_that_holds_stdout_does_not_hold_up_the_end",
            "a_grandchild_that_holds_the_pipe_holds_nothing_up",
        ],
    ),
    (28, "children outlive their leader", &["row_28_what_a_leader_leaves_is_gone_before_the_next_life_begins"]),
    (
        29,
        "ends at once, thousands of times",
        &["row_29_thousands_of_ends_within_a_millisecond_are_all_counted_and_cost_little"],
    ),
    (
        30,
        "exec fails",
        &[
            "row_30_a_program_that_is_busy_or_none_is_told_and_tried_when_it_changes",
            "different_faults_of_a_start_have_different_reasons",
        ],
    ),
    (31, "orphans", &["row_31_ten_thousand_orphans_leave_no_zombie_and_take_no_exit_code_along"]),
    (
        32,
        "pid reuse",
        &[
            "row_32_a_stranger_that_got_the_number_of_a_service_is_never_signalled",
            "a_recycled_main_pid_brings_nobody_in",
        ],
    ),
    (33, "port taken", &["a_port_that_a_stranger_holds_is_told_with_the_stranger"]),
    (
        34,
        "no newline",
        &[
            "row_34_output_without_a_newline_is_stored_as_it_is_and_shown_cut",
            "lines_of_any_length_are_rotated_at_their_ends_and_only_endless_ones_are_cut",
        ],
    ),
    (35, "hostile output", &["row_35_and_75_hostile_output_is_stored_raw_and_shown_harmless_everywhere"]),
    (
        36,
        "log flood",
        &[
            "row_36_a_flood_with_or_without_a_cap_holds_up_nobody_else",
            "a_rate_limit_drops_whole_lines_and_counts_them",
        ],
    ),
    (37, "log file taken away", &["a_file_that_is_truncated_deleted_moved_or_replaced_by_a_link_is_taken_up_again"]),
    (
        38,
        "slow follower",
        &[
            "row_38_a_follower_that_reads_nothing_holds_up_neither_service_nor_others",
            "a_watcher_that_reads_nothing_is_dropped_with_a_notice",
        ],
    ),
    (
        39,
        "status is a link",
        &[
            "row_39_a_status_that_is_a_link_to_a_system_file_leaves_that_file_alone",
            "a_status_that_is_a_link_is_replaced_and_its_target_untouched",
        ],
    ),
    (
        40,
        "status is a directory, a pipe, immutable",
        &[
            "row_40_a_pipe_or_a_file_that_cannot_be_changed_in_a_status_s_place",
            "where_a_directory_is_in_the_way_the_status_goes_elsewhere_and_that_is_said",
        ],
    ),
    (
        41,
        "temporary name planted",
        &[
            "row_41_what_is_planted_for_our_temporary_files_leads_nowhere",
            "row_41_what_is_planted_among_our_temporary_files_is_never_written_to",
            "row_41_a_folder_for_temporary_files_that_others_may_write_is_closed_or_not_used",
        ],
    ),
    (
        42,
        "link outside",
        &["row_42_a_link_is_followed_as_far_as_its_target_is_trusted", "the_target_of_a_link_is_watched"],
    ),
    (
        43,
        "circle of links",
        &["row_43_links_in_a_circle_and_links_to_nothing_take_nothing_down", "a_link_that_dangles_is_not_a_delete"],
    ),
    (44, "no regular file", &["row_44_what_is_no_file_is_not_opened"]),
    (45, "too large", &["a_fifo_and_a_huge_file_are_refused_without_being_opened_for_long"]),
    (46, "bombs", &["bombs_are_refused_in_no_time"]),
    (
        47,
        "torn, empty, flapping",
        &[
            "row_47_a_file_that_flaps_between_good_and_bad_acts_on_no_prefix",
            "a_file_truncated_to_nothing_is_invalid_not_deleted",
            "a_manifest_kept_open_by_its_writer_is_nothing_until_the_close",
        ],
    ),
    (48, "hostile names", &["row_48_hostile_names_are_refused_and_never_a_path_or_an_argument"]),
    (
        49,
        "two files, one name",
        &[
            "of_two_files_with_one_name_the_first_stays_and_the_second_takes_over",
            "names_that_differ_only_in_case_conflict",
        ],
    ),
    (
        50,
        "directory moved, deleted, covered",
        &[
            "row_50_a_directory_that_is_covered_emptied_and_uncovered_is_held_and_found_again",
            "row_50_a_controller_that_begins_while_the_directory_is_covered_stops_nothing",
            "a_lost_directory_holds_everything",
            "an_empty_directory_in_its_place_is_held_until_a_manifest_appears",
            "a_replaced_directory_with_manifests_is_an_ordinary_change",
        ],
    ),
    (51, "permission lost", &["row_51_a_directory_or_a_file_that_may_not_be_read_any_more_is_not_gone"]),
    (
        52,
        "listing fails",
        &[
            "row_52_a_listing_that_fails_is_not_an_empty_one",
            "row_52_a_listing_that_ends_in_the_middle_is_not_a_whole_one",
            "row_52_a_new_controller_whose_first_look_fails_stops_nothing",
        ],
    ),
    (53, "eight editors", &["row_53_eight_writers_and_a_thousand_edits_end_in_what_lies_there"]),
    (
        54,
        "edit at the worst moment",
        &["row_54_an_edit_while_its_service_starts_stops_or_waits_ends_in_the_newest_alone"],
    ),
    (55, "cycles, depth", &["row_55_a_thousand_deep_and_then_in_a_circle", "a_cycle_is_named_and_the_rest_runs"]),
    (
        56,
        "two controllers",
        &[
            "row_56_the_lock_outlives_a_killed_controller_and_goes_with_the_keeper",
            "a_second_controller_on_one_directory_ends_with_73_and_names_the_first",
            "of_two_containers_with_one_directory_the_second_ends_with_73_and_touches_nothing",
        ],
    ),
    (
        57,
        "state torn",
        &[
            "row_57_a_state_that_cannot_be_read_is_moved_aside_and_the_living_stay",
            "row_57_a_state_that_is_another_user_s_is_not_believed",
            "a_database_that_cannot_be_used_is_moved_aside_and_a_new_one_begun",
        ],
    ),
    (58, "another digest", &["a_build_with_another_version_of_the_digests_restarts_nothing_and_still_sees_an_edit"]),
    (
        59,
        "panic",
        &[
            "row_59_a_controller_that_crashes_in_any_way_is_replaced_and_nothing_else_happens",
            "row_59_a_thread_that_panics_takes_the_controller_with_it_and_the_next_finds_everything",
        ],
    ),
    (
        60,
        "hostile check",
        &[
            "ten_thousand_checks_that_flood_fork_and_hear_nothing_leave_no_process_and_no_descriptor",
            "a_check_that_prints_a_gibibyte_is_read_to_its_end_and_4_kib_of_it_are_kept",
            "a_check_that_prints_without_end_is_killed_at_its_timeout_with_all_that_it_began",
            "a_gibibyte_of_output_keeps_its_last_4_kib",
        ],
    ),
    (
        61,
        "check flaps",
        &[
            "a_check_that_flaps_at_every_period_changes_the_word_once_and_restarts_nothing",
            "whatever_flaps_the_word_betters_at_most_twice_a_minute",
        ],
    ),
    (
        62,
        "hostile web server",
        &[
            "a_redirect_is_never_followed_to_another_host_nor_round_in_circles",
            "floods_and_drips_end_at_the_cap_or_the_deadline",
            "http_0_9_is_no_answer_and_a_flood_of_early_ones_ends_at_the_cap",
            "what_is_no_tls_fails_at_once_and_is_told_as_that",
            "a_handshake_that_floods_or_hangs_ends_at_the_cap_or_the_deadline",
        ],
    ),
    (
        63,
        "names",
        &[
            "a_hundred_checks_of_one_name_are_one_lookup",
            "a_resolver_that_hangs_costs_a_check_its_own_deadline_and_the_loop_nothing",
            "a_name_that_is_not_found_is_told_and_asked_again_soon",
            "an_answer_that_changes_is_taken_up_within_seconds",
            "of_a_thousand_addresses_the_first_few_are_tried_and_none_is_none",
            "a_literal_address_is_never_looked_up",
        ],
    ),
    (
        75,
        "hostile text shown",
        &[
            "row_35_and_75_hostile_output_is_stored_raw_and_shown_harmless_everywhere",
            "hostile_text_cannot_reach_the_terminal",
            "hostile_text_changes_no_other_key",
        ],
    ),
    (
        76,
        "pinned wrapper swapped",
        &[
            "row_76_a_pinned_wrapper_that_was_changed_is_told_and_not_started_again",
            "row_76_a_pinned_wrapper_that_is_swapped_between_its_hash_and_its_exec_is_killed",
            "row_76_a_pinned_program_may_be_large",
        ],
    ),
    (
        77,
        "secrets",
        &[
            "row_77_a_secret_is_missing_readable_rotated_and_never_told",
            "values_from_files_and_from_plugd_s_environment_reach_the_process_and_are_never_told",
        ],
    ),
    (
        78,
        "signals",
        &[
            "row_78_a_storm_of_harmless_signals_loses_nothing",
            "row_78_a_second_term_cuts_the_grace",
            "row_78_a_third_term_leaves_at_once_what_nothing_ends",
            "row_78_a_flood_of_ends_beside_a_term_loses_no_exit",
        ],
    ),
    (
        80,
        "jobs and their clock",
        &[
            "in_spring_a_time_that_is_left_out_runs_at_the_first_moment_after",
            "in_autumn_a_time_that_comes_twice_runs_the_first_time",
            "stars_and_steps_follow_the_clock_through_both",
            "every_schedule_in_every_zone_is_what_one_finds_by_hand",
            "what_was_missed_while_plugd_was_down_runs_once_and_is_said",
            "forbid_skips_the_run_that_would_overlap_and_says_so",
            "replace_ends_the_old_run_whole_before_the_new_one_begins",
            "allow_lets_runs_go_on_side_by_side_up_to_ten",
        ],
    ),
];

/// Every function of the sources and tests.
fn functions() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for folder in ["src", "tests"] {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        for entry in walkdir::WalkDir::new(root).into_iter().flatten() {
            if entry.path().extension().is_some_and(|ending| ending == "rs") {
                let text = fs::read_to_string(entry.path()).expect("readable");
                for line in text.lines() {
                    let line = line.trim_start();
                    let line = line.strip_prefix("async ").unwrap_or(line);
                    if let Some(name) = line.strip_prefix("fn ") {
                        found.extend(name.split(['(', '<']).next().map(str::to_string));
                    }
                }
            }
        }
    }
    found
}

#[test]
fn every_row_has_a_test_and_every_test_that_is_named_exists() {
    let functions = functions();
    let named: BTreeSet<&str> = ROWS.iter().flat_map(|(_, _, tests)| tests.iter().copied()).collect();
    let missing: Vec<_> = named.iter().filter(|name| !functions.contains(**name)).collect();
    assert!(missing.is_empty(), "these are named and do not exist: {missing:?}");
    let untold: Vec<_> =
        functions.iter().filter(|name| name.starts_with("row_") && !named.contains(name.as_str())).collect();
    assert!(untold.is_empty(), "these are of a row and not in the table: {untold:?}");
    let rows: Vec<u32> = ROWS.iter().map(|(row, ..)| *row).collect();
    let wanted: Vec<u32> = (1..=63).chain(75..=78).chain([80]).collect();
    assert_eq!(rows, wanted);
    assert!(ROWS.iter().all(|(_, what, tests)| !what.is_empty() && !tests.is_empty()));
}
