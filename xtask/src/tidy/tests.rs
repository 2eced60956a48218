#[test]
fn the_repository_is_tidy() {
    let problems = super::problems(&crate::root());
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}
