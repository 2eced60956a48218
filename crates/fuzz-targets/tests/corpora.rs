//! Replays the committed corpora, and keeps the three lists of targets (functions, fuzz programs, corpora) the same.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use fuzz_targets::TARGETS;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

fn names(dir: &str) -> BTreeSet<String> {
    fs::read_dir(fuzz().join(dir))
        .expect("the directory is committed")
        .map(|entry| {
            let path = entry.expect("readable").path();
            let stem = path.file_stem().expect("a name");
            stem.to_string_lossy().into_owned()
        })
        .collect()
}

#[test]
fn every_target_has_a_program_and_a_corpus() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).into()).collect();
    assert_eq!(names("fuzz_targets"), targets);
    assert_eq!(names("corpus"), targets);
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).expect("the manifest");
    for target in &targets {
        let line = format!("name = \"{target}\"");
        assert!(manifest.contains(&line), "fuzz/Cargo.toml lacks {target}");
        let program = fuzz().join(format!("fuzz_targets/{target}.rs"));
        let program = fs::read_to_string(program).expect("the program");
        assert!(program.contains(&format!("\"{target}\"")), "{target}");
    }
}

#[test]
fn corpora_are_replayed() {
    for (name, body) in TARGETS {
        body(&[]);
        let dir = fuzz().join("corpus").join(name);
        let mut inputs = 0;
        for entry in fs::read_dir(&dir).expect("the corpus") {
            let path = entry.expect("readable").path();
            let data = fs::read(&path).expect("readable");
            assert!(data.len() <= 16 << 10, "`{}` is large", path.display());
            body(&data);
            inputs += 1;
        }
        assert!(inputs > 0, "{name} has no inputs");
    }
}
