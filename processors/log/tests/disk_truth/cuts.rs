//! Power cuts.

use std::path::Path;

use omium_log::disk::RealDisk;
use omium_log::embedded::verify;

use crate::image::{Image, skip};
use crate::process::Running;
use crate::promises::Promises;
use crate::writer::Task;

/// How many cuts the machine is to take; the control takes a fifth of them.
fn cuts() -> usize {
    std::env::var("OMIUM_POWER_CUTS").ok().and_then(|cuts| cuts.parse().ok()).unwrap_or(10)
}

/// A file system to cut the power of, unless this machine cannot mount one.
fn image(dir: &Path, test: &str) -> Option<Image> {
    Image::new(dir).map_err(|why| skip(test, &why)).ok()
}

fn task(image: &Image) -> Task {
    Task { root: image.root(), blocks: None, only_reads: false, lying: false }
}

#[test]
fn nothing_acknowledged_is_lost_by_a_power_cut() {
    let dir = tempfile::tempdir().unwrap();
    let Some(image) = image(dir.path(), "nothing_acknowledged_is_lost_by_a_power_cut") else { return };
    let mut promised = Promises::default();
    let mut at = 0;
    // Each writer lives for a few cuts, at different ages of its segment, and is killed without warning.
    while at < cuts() {
        let running = Running::start(&task(&image), &[]);
        for age in 0..8.min(cuts() - at) {
            let wanted = 1 + age * 97 + at * 13 % 50;
            running.wait_until(|promises| promises.acks() >= wanted);
            running.stop();
            let said = running.wait_until(|_| true).and(&promised);
            let cut = image.cut();
            said.assert_kept_in(&cut.root(), &format!("cut {at}, {} acknowledged", said.acks()));
            drop(cut);
            running.go_on();
            at += 1;
        }
        promised = running.kill().and(&promised);
    }
    println!("{at} power cuts, {} records promised", promised.records());
}

#[test]
fn a_writer_that_does_not_sync_is_caught_losing() {
    let dir = tempfile::tempdir().unwrap();
    let Some(image) = image(dir.path(), "a_writer_that_does_not_sync_is_caught_losing") else { return };
    let controls = (cuts() / 5).clamp(4, 200);
    let mut caught = 0;
    let running = Running::start(&Task { lying: true, ..task(&image) }, &[]);
    for at in 0..controls {
        let before = running.wait_until(|promises| promises.open).acks();
        running.wait_until(|promises| promises.acks() >= before + 50 + at);
        running.stop();
        let said = running.wait_until(|_| true);
        let cut = image.cut();
        caught += usize::from(!said.lost_in(&cut.root()).is_ok_and(|lost| lost.is_empty()));
        drop(cut);
        running.go_on();
    }
    println!("{caught} of {controls} power cuts lost what was only said to be synced");
    assert!(caught * 100 >= controls * 95, "{caught} of {controls}: the power cuts do not cut");
}

#[test]
fn what_a_process_read_after_a_kill_survives_a_power_cut() {
    let dir = tempfile::tempdir().unwrap();
    let Some(image) = image(dir.path(), "what_a_process_read_after_a_kill_survives_a_power_cut") else {
        return;
    };
    for round in 0..3 {
        // The first process leaves records in the page cache that were never synced.
        let lying =
            Task { lying: true, root: image.root().with_extension(round.to_string()), ..task(&image) };
        let running = Running::start(&lying, &[]);
        running.wait_until(|promises| promises.acks() >= 60);
        let first = running.kill();
        // The second one reads them, and whoever asks it is told of them. It writes nothing that would sync them too.
        let reading = Running::start(&Task { lying: false, only_reads: true, ..lying }, &[]);
        let said = reading.wait_until(|promises| promises.open);
        reading.stop();
        assert!(
            said.open && said.records() >= first.records(),
            "a kill alone loses nothing: {:?}",
            said.error
        );
        let cut = image.cut();
        let root = cut.root().with_extension(round.to_string());
        said.assert_kept_in(&root, "killed, opened, then the power cut");
    }
}

#[test]
fn a_kill_and_then_a_power_cut_lose_nothing_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let Some(image) = image(dir.path(), "a_kill_and_then_a_power_cut_lose_nothing_acknowledged") else {
        return;
    };
    let mut promised = Promises::default();
    for round in 0..4 {
        let running = Running::start(&task(&image), &[]);
        running.wait_until(|promises| promises.acks() >= 20 + round * 150);
        promised = running.kill().and(&promised);
        let cut = image.cut();
        promised.assert_kept_in(&cut.root(), &format!("round {round}"));
    }
}

#[test]
fn a_full_file_system_is_met_before_a_write_and_left_when_there_is_space() {
    let dir = tempfile::tempdir().unwrap();
    let test = "a_full_file_system_is_met_before_a_write_and_left_when_there_is_space";
    let Some(image) = image(dir.path(), test) else { return };
    let ballast = image.root().with_extension("ballast");
    std::fs::write(&ballast, vec![1; 24 << 20]).unwrap();
    let running = Running::start(&Task { blocks: Some(1_000_000), ..task(&image) }, &[]);
    let full = running.wait_until(|promises| promises.full > 0);
    assert!(full.full > 0 && !full.ended, "{:?}", full.error);
    std::fs::remove_file(&ballast).unwrap();
    let goes_on = running.wait_until(|promises| promises.room > 0);
    assert!(goes_on.room > 0 && !goes_on.ended, "{:?}", goes_on.error);
    let more = goes_on.acks() + 100;
    running.wait_until(|promises| promises.acks() >= more || promises.full > full.full);
    let said = running.kill();
    let cut = image.cut();
    said.assert_kept_in(&cut.root(), "filled, then killed, then the power cut");
}

#[test]
fn a_read_only_file_system_is_refused_with_what_to_do_and_can_be_verified() {
    let dir = tempfile::tempdir().unwrap();
    let test = "a_read_only_file_system_is_refused_with_what_to_do_and_can_be_verified";
    let Some(image) = image(dir.path(), test) else { return };
    let task = Task { blocks: Some(5), ..task(&image) };
    assert!(Running::start(&task, &[]).end().0.success());
    image.make_read_only();
    let (status, said) = Running::start(&task, &[]).end();
    let error = said.error.expect("it cannot be opened");
    assert_eq!(status.code(), Some(1));
    assert!(error.contains("Read-only") && error.contains("choose another directory"), "{error}");
    let verified = verify(&RealDisk, &image.root()).unwrap();
    assert!(verified.is_sound() && verified.clean, "{verified}");
}
