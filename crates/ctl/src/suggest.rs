//! The command that was probably meant.

/// Names this alike are suggested.
const LIKENESS_MIN: f64 = 0.77;

/// The most alike name, if it is alike enough.
pub(crate) fn suggest<'a>(typed: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let rated = names.map(|name| (name, likeness(name, typed)));
    // Of equals the first counts.
    let best = rated.reduce(|best, other| if other.1 > best.1 { other } else { best });
    best.filter(|(_, likeness)| *likeness >= LIKENESS_MIN)
        .map(|(name, _)| name)
}

/// The Jaro distance of two words: 1 for equal ones, 0 for those with no letter in common.
fn likeness(one: &str, other: &str) -> f64 {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    if one == other {
        return 1.0;
    }
    if one.is_empty() || other.is_empty() {
        return 0.0;
    }
    let reach = (one.len().max(other.len()) / 2).saturating_sub(1);
    let mut taken = vec![false; other.len()];
    let mut common = Vec::new();
    for (index, letter) in one.iter().enumerate() {
        let from = index.saturating_sub(reach);
        let to = (index + reach + 1).min(other.len());
        if let Some(found) = (from..to).find(|at| !taken[*at] && other[*at] == *letter) {
            taken[found] = true;
            common.push(*letter);
        }
    }
    if common.is_empty() {
        return 0.0;
    }
    let in_other = other
        .iter()
        .zip(&taken)
        .filter(|(_, taken)| **taken)
        .map(|(letter, _)| *letter);
    let misplaced = common
        .iter()
        .zip(in_other)
        .filter(|(a, b)| **a != *b)
        .count();
    let count = |number: usize| f64::from(u32::try_from(number).unwrap_or(u32::MAX));
    let matching = count(common.len());
    let in_place = matching - count(misplaced) / 2.0;
    (matching / count(one.len()) + matching / count(other.len()) + in_place / matching) / 3.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 5] = [
        "list_queues",
        "list_users",
        "change_password",
        "status",
        "stop",
    ];

    #[test]
    fn a_slip_of_the_finger_is_corrected() {
        assert_eq!(
            suggest("lst_queues", NAMES.into_iter()),
            Some("list_queues")
        );
        assert_eq!(suggest("statsu", NAMES.into_iter()), Some("status"));
        assert_eq!(suggest("frobnicate", NAMES.into_iter()), None);
    }

    #[test]
    fn likeness_is_that_of_jaro() {
        assert!((likeness("dixon", "dicksonx") - 0.766_666).abs() < 1e-4);
        assert!((likeness("martha", "marhta") - 0.944_444).abs() < 1e-4);
        assert!(likeness("abc", "xyz").abs() < 1e-9);
    }
}
