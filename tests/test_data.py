"""The data that ships is what `data/README.md` says it is."""

import ast
import csv
import html
import json
import re
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest
from simhash import Simhash

DATA = Path(__file__).resolve().parents[1] / "data"
BENCH = DATA / "sentibench"

SENTIMENTS = {"positive", "negative", "neutral"}
EMOTIONS = {"happiness", "sadness", "fear", "anger", "surprise", "disgust", "neutral"}
# fmt: off
GOEMOTIONS = {
    "neutral", "curiosity", "confusion", "amusement", "gratitude", "admiration", "pride",
    "approval", "realization", "surprise", "excitement", "joy", "relief", "caring",
    "optimism", "desire", "love", "fear", "nervousness", "grief", "sadness",
    "remorse", "disapproval", "disappointment", "anger", "annoyance", "embarrassment", "disgust",
}
# fmt: on
CLASSIFICATION = {
    "sc/imdb": {"positive", "negative"},
    "sc/yelp2": {"positive", "negative"},
    "sc/sst2": {"positive", "negative"},
    "sc/twitter": SENTIMENTS,
    "multifaced/irony18": {"irony", "non-irony"},
    "multifaced/tweeteval": {"anger", "joy", "sadness", "optimism"},
    "multifaced/pstance": {"FAVOR", "AGAINST"},
    "multifaced/intimacy": {"Not Intimate", "Moderately Intimate", "Highly Intimate"},
}
EXTRACTION = ["absa/atsa_rest16", "absa/acsa_rest16", "absa/asqp_rest16", "absa/opener"]
TASKS = [*CLASSIFICATION, *EXTRACTION]
SPLITS = ["train", "test"]
CATEGORIES = {
    "AMBIENCE#GENERAL",
    "DRINKS#PRICES",
    "DRINKS#QUALITY",
    "DRINKS#STYLE_OPTIONS",
    "FOOD#PRICES",
    "FOOD#QUALITY",
    "FOOD#STYLE_OPTIONS",
    "LOCATION#GENERAL",
    "RESTAURANT#GENERAL",
    "RESTAURANT#MISCELLANEOUS",
    "RESTAURANT#PRICES",
    "SERVICE#GENERAL",
}
EMOJI = re.compile("[\u231a-\u27bf\u2b00-\u2bff\U0001f300-\U0001faff]")
HTML = re.compile(r"<[a-zA-Z/][^>]*>|&(?:amp|quot|lt|gt);")


def load(path: Path):
    return json.loads(path.read_text(encoding="utf-8-sig"))


def rows(task: str, split: str) -> list[dict]:
    return load(BENCH / task / f"{split}.json")


def corpus() -> dict[str, list[str]]:
    """The texts of the demo corpus by file."""
    demo = DATA / "demo"
    with (demo / "reviews.csv").open(encoding="utf-8", newline="") as handle:
        reviews = [row["review"] for row in csv.DictReader(handle)]
    products = (demo / "products.jsonl").read_text(encoding="utf-8").splitlines()
    return {
        "reviews.csv": reviews,
        "products.jsonl": [json.loads(line)["reviewText"] for line in products],
        "tweets.txt": (demo / "tweets.txt").read_text(encoding="utf-8").splitlines(),
    }


def planted() -> dict[str, list[dict]]:
    return load(DATA / "demo" / "planted.json")


def normalise(text: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())


def squash(text: str) -> str:
    """Letters and digits only, so that tokenised and plain forms of a sentence are equal."""
    return "".join(re.findall(r"\w", text.lower()))


def five_grams(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", normalise(text).lower())
    return {tuple(words[i : i + 5]) for i in range(len(words) - 4)}


def distance(one: str, other: str) -> int:
    return Simhash(one).distance(Simhash(other))


def all_texts() -> list[str]:
    """Corpus, benchmark and pool. ATSA stands for ACSA and ASQP, which share its sentences."""
    texts = [text for part in corpus().values() for text in part]
    for task in TASKS:
        if task not in ("absa/acsa_rest16", "absa/asqp_rest16"):
            texts += [row["sentence"] for split in SPLITS for row in rows(task, split)]
    return texts + [demonstration["text"] for demonstration in load(DATA / "demonstrations.json")]


def planted_copies() -> list[frozenset[str]]:
    listed = planted()
    return [frozenset((item["text"], item["copy"])) for item in listed["near_duplicates"] + listed["exact_duplicates"]]


# The pool of demonstrations


def test_the_pool_has_55_different_demonstrations():
    pool = load(DATA / "demonstrations.json")
    assert len(pool) == 55
    assert len({x["text"] for x in pool}) == 55
    assert all(12 <= len(x["text"].split()) <= 60 for x in pool)


def test_demonstration_labels_are_inside_the_lists():
    for x in load(DATA / "demonstrations.json"):
        assert set(x) == {"text", "sentiment", "emotions", "emotions_goemotions"}
        assert x["sentiment"] in SENTIMENTS
        for key, allowed, most in (("emotions", EMOTIONS, 3), ("emotions_goemotions", GOEMOTIONS, 4)):
            assert 1 <= len(x[key]) <= most, x
            assert len(set(x[key])) == len(x[key]), x
            assert set(x[key]) <= allowed, x


def test_the_pool_covers_sentiments_and_emotions():
    pool = load(DATA / "demonstrations.json")
    sentiments = Counter(x["sentiment"] for x in pool)
    assert set(sentiments) == SENTIMENTS and min(sentiments.values()) >= 15
    emotions = Counter(label for x in pool for label in x["emotions"])
    assert all(emotions[label] >= 4 for label in EMOTIONS), emotions
    assert len({label for x in pool for label in x["emotions_goemotions"]}) >= 24


# The benchmark


@pytest.mark.parametrize("task", TASKS)
def test_a_task_has_its_documented_size_and_a_byte_order_mark(task):
    lines = (DATA / "README.md").read_text(encoding="utf-8").splitlines()
    (cells,) = (line.split("|") for line in lines if line.startswith("|") and f"`{task}`" in line)
    for split, size in zip(("train", "test"), cells[2:4], strict=True):
        assert len(rows(task, split)) == int(size)
        assert (BENCH / task / f"{split}.json").read_bytes().startswith(b"\xef\xbb\xbf")


@pytest.mark.parametrize("task", TASKS)
def test_train_and_test_are_disjoint_and_free_of_repeats(task):
    train, test = ([squash(row["sentence"]) for row in rows(task, split)] for split in SPLITS)
    assert len(set(train)) == len(train) and len(set(test)) == len(test)
    assert not set(train) & set(test)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("task", CLASSIFICATION)
def test_classification_labels_are_known_and_balanced(task, split):
    labels = Counter(row["label"] for row in rows(task, split))
    assert set(labels) == CLASSIFICATION[task]
    assert len(set(labels.values())) == 1, labels


@pytest.mark.parametrize("task", CLASSIFICATION)
def test_the_first_examples_are_nearly_balanced(task):
    """A limit takes the first examples of the test split."""
    labels = [row["label"] for row in rows(task, "test")]
    for n in range(1, len(labels) + 1):
        most = max(Counter(labels[:n]).values())
        assert most - n / len(CLASSIFICATION[task]) <= 3, n


@pytest.mark.parametrize("split", SPLITS)
def test_stances_are_balanced_for_each_target(split):
    pairs = Counter((row["target"], row["label"]) for row in rows("multifaced/pstance", split))
    assert len(pairs) == 6 and len(set(pairs.values())) == 1, pairs


@pytest.mark.parametrize("split", SPLITS)
def test_intimacy_labels_agree_with_their_scores(split):
    for row in rows("multifaced/intimacy", split):
        score = row["label_score"]
        assert isinstance(score, float) and 1 <= score <= 5
        level = "Not Intimate" if score <= 2.0 else "Highly Intimate" if score >= 3.6 else "Moderately Intimate"
        assert row["label"] == level, row


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("task", ["absa/atsa_rest16", "absa/acsa_rest16"])
def test_aspect_offsets_agree_with_the_sentence(task, split):
    for row in rows(task, split):
        for aspect in row["aspects"]:
            assert aspect["category"] in CATEGORIES and aspect["polarity"] in SENTIMENTS
            assert isinstance(aspect["from"], str) and isinstance(aspect["to"], str)
            if aspect["target"] == "NULL":
                assert (aspect["from"], aspect["to"]) == ("0", "0")
            else:
                assert row["sentence"][int(aspect["from"]) : int(aspect["to"])] == aspect["target"], row


@pytest.mark.parametrize("split", SPLITS)
def test_restaurant_tasks_share_their_sentences(split):
    atsa = rows("absa/atsa_rest16", split)
    assert atsa == rows("absa/acsa_rest16", split)
    plain = {squash(row["sentence"]) for row in atsa}
    assert {squash(row["sentence"]) for row in rows("absa/asqp_rest16", split)} <= plain


@pytest.mark.parametrize("split", SPLITS)
def test_quadruples_stand_in_the_sentence_and_in_their_string(split):
    categories = {category.lower().replace("#", " ") for category in CATEGORIES}
    for row in rows("absa/asqp_rest16", split):
        assert row["quards"]
        listed = [[q["aspect"], q["category"], q["sentiment"], q["opinion"]] for q in row["quards"]]
        assert ast.literal_eval(row["quards_str"]) == listed
        for aspect, category, sentiment, opinion in listed:
            assert category in categories and sentiment in SENTIMENTS
            assert opinion in row["sentence"], row
            assert aspect == "NULL" or aspect in row["sentence"], row


@pytest.mark.parametrize("split", SPLITS)
def test_opinion_spans_agree_with_the_sentence(split):
    for row in rows("absa/opener", split):
        for opinion in row["opinions"]:
            assert opinion["Polarity"] in {"Positive", "Negative"} and opinion["Intensity"] in {"Standard", "Strong"}
            assert opinion["Polar_expression"][0], row
            for part in ("Source", "Target", "Polar_expression"):
                words, spans = opinion[part]
                assert len(words) == len(spans)
                for word, span in zip(words, spans, strict=True):
                    start, end = map(int, span.split(":"))
                    assert row["sentence"][start:end] == word, row


# The corpus


def test_the_corpus_has_the_documented_size():
    sizes = {name: len(texts) for name, texts in corpus().items()}
    assert sizes == {"reviews.csv": 85, "products.jsonl": 75, "tweets.txt": 90}


def test_reviews_name_their_domain_and_products_their_stars():
    with (DATA / "demo" / "reviews.csv").open(encoding="utf-8", newline="") as handle:
        assert {row["domain"] for row in csv.DictReader(handle)} == {"film", "restaurant"}
    products = (DATA / "demo" / "products.jsonl").read_text(encoding="utf-8").splitlines()
    assert {json.loads(line)["overall"] for line in products} == {1.0, 2.0, 3.0, 4.0, 5.0}


def test_every_planted_text_stands_in_its_file_and_has_a_reason():
    texts = corpus()
    for kind, items in planted().items():
        for item in items:
            assert item["reason"], kind
            assert item["text"] in texts[item["file"]], item
            assert item.get("copy", item["text"]) in texts[item["file"]], item


def test_enough_of_every_kind_is_planted():
    least = {"near_duplicates": 4, "exact_duplicates": 3, "benchmark_texts": 5, "too_short": 3, "html": 10, "emoji": 15}
    found = planted()
    assert set(found) == set(least)
    assert all(len(found[kind]) >= n for kind, n in least.items())


def test_near_duplicates_are_close_but_not_equal():
    for item in planted()["near_duplicates"]:
        assert normalise(item["text"]) != normalise(item["copy"])
        assert distance(normalise(item["text"]), normalise(item["copy"])) <= 3, item["reason"]


def test_exact_duplicates_are_equal_only_after_normalisation():
    for item in planted()["exact_duplicates"]:
        assert item["text"] != item["copy"]
        assert normalise(item["text"]) == normalise(item["copy"])


def test_planted_benchmark_texts_stand_in_the_named_test_split():
    items = planted()["benchmark_texts"]
    for item in items:
        assert item["text"] in {row["sentence"] for row in load(BENCH / item["benchmark"])}
    assert len({item["benchmark"] for item in items}) == len(items)


def test_short_html_and_emoji_texts_are_listed_completely():
    found = {kind: sorted(item["text"] for item in items) for kind, items in planted().items()}
    texts = [text for part in corpus().values() for text in part]
    assert found["too_short"] == sorted(text for text in texts if len(text) < 10)
    assert found["html"] == sorted(text for text in texts if HTML.search(text))
    assert found["emoji"] == sorted(text for text in texts if EMOJI.search(text))


def test_texts_overlap_only_where_it_is_planted():
    """Containment of word 5-grams over the smaller text, for every pair."""
    texts = all_texts()
    grams = [five_grams(text) for text in texts]
    holders: dict[tuple[str, ...], list[int]] = {}
    for i, own in enumerate(grams):
        for gram in own:
            holders.setdefault(gram, []).append(i)
    shared = Counter(pair for holding in holders.values() for pair in combinations(holding, 2))
    close = Counter(
        frozenset((texts[i], texts[j])) for (i, j), n in shared.items() if n >= 0.2 * min(len(grams[i]), len(grams[j]))
    )
    benchmark = [frozenset((item["text"],)) for item in planted()["benchmark_texts"]]
    assert close == Counter(planted_copies() + benchmark)


def test_no_two_corpus_texts_are_near_duplicates_unless_planted():
    texts = [text for part in corpus().values() for text in part]
    prints = [(text, Simhash(normalise(text))) for text in texts]
    close = {frozenset((a, b)) for (a, one), (b, other) in combinations(prints, 2) if one.distance(other) <= 3}
    assert close == set(planted_copies())


# The general tasks

NATURAL = sorted((DATA / "natural_tasks").glob("*.json"))


def test_exactly_one_general_task_is_sentiment_analysis():
    assert len(NATURAL) == 5
    assert [p.stem for p in NATURAL if "Sentiment Analysis" in load(p)["Categories"]] == ["sentiment"]


@pytest.mark.parametrize("path", NATURAL, ids=lambda path: path.stem)
def test_a_general_task_is_complete_and_repeats_nothing(path):
    task = load(path)
    assert len(task["Definition"]) == 1 and len(task["Positive Examples"]) == 4 and len(task["Instances"]) == 30
    inputs = [x["input"] for x in task["Positive Examples"] + task["Instances"]]
    assert len(set(inputs)) == len(inputs)
    assert len({x["id"] for x in task["Instances"]}) == 30
    assert all(len(x["output"]) == 1 and x["output"][0] for x in task["Instances"])


def test_sums_and_first_letters_are_right():
    for x in load(DATA / "natural_tasks" / "sum.json")["Instances"]:
        assert x["output"] == [str(sum(map(int, x["input"].split())))]
    for x in load(DATA / "natural_tasks" / "first_letter.json")["Instances"]:
        assert x["output"] == [x["input"][0]]
