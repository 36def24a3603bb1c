"""Songs from the names of files: patterns that are given, found, or only offered."""

import pytest

from mer.data.load import load_dataset
from mer.data.song_names import find_naming, name_songs
from mer.utils.errors import ConfigError

CLASSES = ("Happy", "Sad", "Party")
TITLES = [
    "Arijit Singh - Tum Hi Ho", "Kishore Kumar - Zindagi", "Lata - Lag Ja Gale", "Rafi - Chaudhvin",
    "Asha - Dum Maro", "KK - Yaaron", "Sonu - Kal Ho Na Ho", "Mohit - Masakali", "लता - गीत",
    "Alka - Taal", "Udit - Pehla Nasha", "Kavita - Hawa Hawai",
]  # fmt: skip


def clips(form, *, songs=4, parts=3):
    """Clips named by `form`: {label}, {i} in the class, {n} in all, {title}, {part}, {letter}."""
    found = []
    for place, label in enumerate(CLASSES):
        for i in range(songs):
            n = place * songs + i
            for part in range(parts):
                names = {"label": label, "i": i + 1, "n": n + 1, "part": part + 1, "letter": "abcdef"[part]}
                stem = form.format(title=TITLES[n % len(TITLES)], **names)
                found.append((f"{label}/{stem}.wav", label))
    return found


@pytest.mark.parametrize(
    ("form", "pattern", "songs"),
    [
        ("song{n:03}{letter}", "{song}{letter}", 12),
        ("{n:02}_{letter}", "{song}_{letter}", 12),
        ("{title} ({part})", "{song} ({number})", 12),
        ("song{n} ({part})", "{song} ({number})", 12),
        ("song_{n}-{part}", "{song}-{number}", 12),
        ("{label}_{i:03}_{part}", "{song}_{number}", 12),
        ("{title}_part{part}", "{song}_part{number}", 12),
        ("गीत{n:03}{letter}", "{song}{letter}", 12),
    ],
)
def test_a_pattern_that_names_clearly_follow_is_found(form, pattern, songs):
    found, offered = find_naming(clips(form, songs=4))
    assert offered is None
    assert found.pattern == pattern
    assert found.automatic
    assert len(set(found.songs.values())) == songs


def test_clips_of_one_song_in_two_classes_are_one_song():
    names = [
        (f"{CLASSES[(n + part) % 3]}/song{n:03}{'abc'[part]}.ogg", "") for n in range(9) for part in range(3)
    ]
    found, _ = find_naming([(name, name.split("/")[0]) for name, _ in names])
    assert len(set(found.songs.values())) == 9


def test_classes_that_number_their_songs_anew_have_songs_of_their_own():
    found, _ = find_naming(clips("{i:02}{letter}", songs=6))
    assert len(set(found.songs.values())) == 18
    assert found.songs["Happy/01a.wav"] == found.songs["Happy/01b.wav"] == "Happy/01"
    assert found.songs["Sad/01a.wav"] == "Sad/01"


@pytest.mark.parametrize(
    "form",
    [
        "{label}.{n:05}", "{label}_{i}_{part}x", "{label} ({n})", "{n}", "track_{n:02}", "clip{n}",
        "{label}{letter}{n}",
        "CD{i}_{part:02}", "{i}-{part:02}", "film{n:02}{letter}", "download ({n})", "2019-01-{i:02}_{part}",
        "19{n:02}_{part}", "{label} part {n}", "Vol {i} - {part:02}", "raga{i}_{part}", "singer{n}{letter}",
    ],
)  # fmt: skip
def test_plainly_different_songs_are_not_joined(form):
    assert find_naming(clips(form, parts=1))[0] is None
    found = find_naming(clips(form, songs=4, parts=4))[0]
    assert found is None


@pytest.mark.parametrize("form", ["{title[0]} Singh {part}", "Kumar ({part}) {n}"])
def test_songs_of_one_singer_are_never_joined_unasked(form):
    names = [
        (f"{label}/{singer} {number}.wav", label)
        for label in CLASSES for singer in ("Arijit Singh", "Kishore Kumar", "Lata") for number in range(1, 6)
    ]  # fmt: skip
    found, offered = find_naming(names)
    assert found is None
    assert offered.pattern == "{song} {number}"
    assert find_naming(clips(form))[0] is None


def test_a_few_names_that_follow_by_chance_are_no_pattern():
    names = [
        (f"{label}/{word}{n}.wav", label)
        for label in CLASSES
        for n, word in enumerate(("ab", "cd", "ef", "gh"))
    ]
    assert find_naming([*names, ("Sad/song1a.wav", "Sad"), ("Sad/song1b.wav", "Sad")]) == (None, None)


def test_a_given_pattern_names_songs_and_other_clips_count_as_songs():
    naming = name_songs(
        "{song}_take{number}", [("a/x_take1.wav", "a"), ("b/X_take2.wav", "b"), ("b/other.wav", "b")]
    )
    assert naming.songs == {"a/x_take1.wav": "x", "b/X_take2.wav": "x", "b/other.wav": "other"}
    assert naming.examples() == {"x": ["a/x_take1.wav", "b/X_take2.wav"]}


def test_a_name_without_the_part_is_of_the_same_song():
    naming = name_songs(
        "{song} ({number})", [("a/Lata - Lag Ja Gale.mp3", "a"), ("a/Lata - Lag Ja Gale (1).mp3", "a")]
    )
    assert len(set(naming.songs.values())) == 1


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "{song}{song}",
        "{number}",
        "{song}{what}",
        "{song}{any}{any}",
        "{song}" + "x" * 100,
        ".*",
        "{song}{0}",
    ],
)
def test_a_pattern_that_is_none_is_refused(pattern):
    with pytest.raises(ConfigError, match="song pattern"):
        name_songs(pattern, [("a/1.wav", "a")])


def test_signs_of_regular_expressions_in_a_pattern_are_plain_text():
    naming = name_songs(
        "{song}.*[{number}]", [("a/x.*[1].wav", "a"), ("a/x.*[2].wav", "a"), ("a/xyz1.wav", "a")]
    )
    assert list(naming.songs.values()) == ["x", "x", "xyz1"]


@pytest.fixture
def folder(tmp_path):
    for name, _ in clips("song{n:03}{letter}"):
        path = tmp_path / "corpus" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "corpus"


def test_a_data_set_names_its_songs_by_a_clear_pattern_unless_told_not_to(folder):
    data = load_dataset(folder)
    assert len({clip.song for clip in data.clips}) == 12
    assert data.naming.pattern == "{song}{letter}"
    assert {clip.song for clip in load_dataset(folder, song_pattern="none").clips} == {None}
    assert {clip.song for clip in data.unnamed().clips} == {None}


def test_songs_in_a_column_are_kept(folder):
    rows = [f"{name},{label},by hand" for name, label in clips("song{n:03}{letter}")]
    (folder / "manifest.csv").write_text("\n".join(["path,label,song", *rows]))
    data = load_dataset(folder)
    assert ({clip.song for clip in data.clips}, data.naming) == ({"by hand"}, None)
    assert {clip.song for clip in load_dataset(folder, song_pattern="{song}{letter}").clips} == {"by hand"}
